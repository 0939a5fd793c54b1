"""Which pieces of a mask belong to one crack."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]  # of integers


def link_pieces(labels: Numbers, count: int, gap: float) -> Numbers:
    """Number the cracks that connected components, "pieces", belong to.

    Pieces with at most ``gap`` px of background between them belong to one crack.

    Args:
        labels: HxW, 0 for background, 1..count for the pieces.
        count: number of pieces.
        gap: px; 0 makes each piece a crack of its own.

    Returns:
        Array of count + 1: the crack of each piece, 1..K in order of their first pieces; 0 for 0.
    """
    if gap <= 0 or count < 2:
        return np.arange(count + 1)
    mask = (labels > 0).view(np.uint8)
    away = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    _, grown = cv2.connectedComponents((away <= gap / 2).view(np.uint8), connectivity=8)
    cluster = np.zeros(count + 1, np.int64)
    inside = np.flatnonzero(mask)
    cluster[labels.ravel()[inside]] = grown.ravel()[inside]
    return _numbered(cluster)


def _numbered(cluster: Numbers) -> Numbers:
    """Renumber clusters 1, 2, ... in order of the first piece of each; that of piece 0 is 0."""
    _, first, inverse = np.unique(cluster[1:], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return np.concatenate([np.zeros(1, np.int64), rank[inverse]])
