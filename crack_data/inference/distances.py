"""Distances to the rim of a mask, of some of its pixels only."""

from __future__ import annotations

import math

import numpy as np

# Columns looked at to each side at first; then ever more.
_FIRST_REACH = 8


def half_widths(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Distance from some pixels to the nearest one outside a mask, both at twice its resolution.

    Exact (Meijster et al., 2000): what is outside in each column, then of the columns no farther
    away than what was found. A skeleton's pixels are few: a map of all distances takes longer.

    Args:
        mask: bool (H, W), its border False.
        rows, columns: (N,) of pixels inside, in half px.

    Returns:
        (N,) px.
    """
    line = np.arange(len(mask), dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(mask, np.int32(-1), line), axis=0)
    outside = np.where(mask, np.int32(len(mask)), line)
    below = np.minimum.accumulate(outside[::-1], axis=0)[::-1]
    last = 2 * mask.shape[1] - 1

    def nearest(which: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Squared distance, in half px, to what is outside in the columns ``across`` of them."""
        row = rows[which, None]
        at = row // 2, (columns[which, None] + across).clip(0, last) // 2
        down = np.minimum(row - 2 * above[at] - 1, 2 * below[at] - row).clip(0)
        return (down**2 + across**2).min(axis=1)

    which = np.arange(len(rows))
    squared = nearest(which, np.zeros(1, dtype=int))
    reach = 0
    which = which[squared > 1]
    while len(which):
        farthest = min(2 * reach + _FIRST_REACH, math.isqrt(int(squared[which].max())))
        away = np.arange(reach + 1, farthest + 1)
        found = nearest(which, np.concatenate([-away, away]))
        squared[which] = np.minimum(squared[which], found)
        reach = farthest
        which = which[squared[which] > (reach + 1) ** 2]
    return np.sqrt(squared) / 2.0
