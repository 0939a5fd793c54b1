"""Connected components of binary masks, without OpenCV's costly statistics."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

ByteMask = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]  # uint16 or int32


def label_components(mask: ByteMask, connectivity: int) -> tuple[int, Labels]:
    """Label the connected components of a binary mask, HxW.

    Returns:
        Their number N, and the labels HxW: 0 is background, 1..N in order of their first pixel.
    """
    # Until it joins them, OpenCV counts a label for at most every second pixel, or every block
    # of 2x2. Labels of 16 bits, where that many fit, take half the time.
    height, width = mask.shape
    most = mask.size // 2 if connectivity == 4 else (height + 1) // 2 * ((width + 1) // 2)
    kind = cv2.CV_16U if most < 2**16 - 2 else cv2.CV_32S
    count, labels = cv2.connectedComponents(mask, connectivity=connectivity, ltype=kind)
    found: Any = labels
    return count - 1, found


def under(mask: ByteMask, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values, HxW, at the pixels that a contiguous mask, HxW of 0 and 1, sets, row by row."""
    return values.ravel().take(np.flatnonzero(mask.view(np.bool_)))
