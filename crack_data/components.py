"""Connected components of binary masks, without OpenCV's costly statistics."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

ByteMask = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]


def label_components(mask: ByteMask, connectivity: int) -> tuple[int, Labels]:
    """Label the connected components of a binary mask, HxW.

    Returns:
        Their number N, and the labels HxW: 0 is background, 1..N in order of their first pixel.
    """
    count, labels = cv2.connectedComponents(mask, connectivity=connectivity, ltype=cv2.CV_32S)
    found: Any = labels
    return count - 1, found


def areas_of(mask: ByteMask, labels: Labels, count: int) -> npt.NDArray[np.int64]:
    """Area in px of each label 0..count; that of label 0, the background, is given as 0."""
    return np.bincount(labels[mask.view(np.bool_)], minlength=count + 1)


def select(keep: npt.NDArray[Any], labels: Labels) -> ByteMask:
    """The binary mask, HxW, of the labels for which ``keep``, indexed by label, is true."""
    return keep.astype(np.uint8)[labels]
