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
    return values.ravel().take(_pixels(mask))


def areas_of(mask: ByteMask, labels: Labels, count: int) -> npt.NDArray[np.int64]:
    """Area in px of each label 0..count; that of label 0, the background, is given as 0."""
    return np.bincount(under(mask, labels), minlength=count + 1)


def renumber(numbers: npt.NDArray[Any], mask: ByteMask, labels: Labels) -> tuple[ByteMask, Labels]:
    """Mask and labels, HxW, with ``numbers[i]`` instead of label i; 0 makes background of it."""
    pixels = _pixels(mask)
    owners = numbers.astype(labels.dtype)[labels.ravel().take(pixels)]
    changed, renumbered = np.zeros_like(mask), np.zeros_like(labels)
    changed.ravel()[pixels] = owners > 0
    renumbered.ravel()[pixels] = owners
    return changed, renumbered


def _pixels(mask: ByteMask) -> npt.NDArray[np.intp]:
    return np.flatnonzero(mask.view(np.bool_))
