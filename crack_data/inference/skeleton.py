"""The centreline of a mask as a graph of pixels, without arrays of the photo's size beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ..thinning import thin
from .distances import half_widths
from .graph import PixelGraph, prune

# The mask is thinned at twice its resolution, where Zhang and Suen's method loses no diagonal of
# two px and an even width has a middle; and block by block. Within a block the result is that of
# the whole mask, as thinning carries 2 px further per px of half width: exact for cracks up to
# _HALO px wide.
_BLOCK = 1024
_HALO = 128

# Rounds of [1 2 1] / 4 smoothing: a Gaussian of about 2 px, which takes the pixel steps out of a
# slanted line (up to 8 % of its length) and leaves curves of 15 px radius.
_ROUNDS = 40


@dataclass(frozen=True)
class Centreline:
    """Pixels of a pruned skeleton and how they connect.

    Attributes:
        points: (N, 2) row, column in px, whole at pixel centres; smoothed along the branches.
        radius: (N,) half the width of the mask there, px.
        graph: which of them are neighbours.
    """

    points: np.ndarray
    radius: np.ndarray
    graph: PixelGraph

    @cached_property
    def places(self) -> list[list[float]]:
        """The points as lists, for single look-ups, which lists answer faster."""
        return self.points.tolist()

    @property
    def degree(self) -> np.ndarray:
        """(N,) number of neighbours: 1 at an end, 2 along a branch, more at a junction."""
        return self.graph.degree

    @property
    def length(self) -> float:
        """Of all edges together, px; it ends about half a width short of the mask's ends."""
        start, stop = self.points[self.graph.edges].transpose(1, 0, 2)
        return float(np.linalg.norm(start - stop, axis=1).sum())


def centreline(mask: np.ndarray) -> Centreline:
    """Thin a mask, drop side branches that are bumps of its rim, and smooth.

    Args:
        mask: bool (H, W), at least one pixel set.
    """
    rows, columns, radius = (np.concatenate(x) for x in zip(*_thin(mask), strict=True))
    order = np.lexsort((columns, rows))
    points, radius = np.column_stack([rows, columns])[order], radius[order]
    edges = _edges(points, 2 * mask.shape[1])
    points, radius, graph = prune(points / 2.0 - 0.25, radius, edges)
    return Centreline(_smooth(points, graph), radius, graph)


def _thin(mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows and columns, in half px, and radii, in px, of the skeleton's pixels, block by block."""
    height, width = mask.shape
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _BLOCK):
            top, left = max(0, y - _HALO), max(0, x - _HALO)
            window = mask[top : y + _BLOCK + _HALO, left : x + _BLOCK + _HALO].view(np.uint8)
            rim = cv2.copyMakeBorder(window, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
            fine = cv2.resize(rim, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
            rows, columns = np.divmod(thin(fine.view(bool)), fine.shape[1])
            row, column = rows // 2 - 1 + top, columns // 2 - 1 + left
            inside = (row // _BLOCK == y // _BLOCK) & (column // _BLOCK == x // _BLOCK)
            rows, columns = rows[inside], columns[inside]
            radius = half_widths(rim.view(bool), rows, columns)
            yield rows + 2 * (top - 1), columns + 2 * (left - 1), radius


def _edges(points: np.ndarray, width: int) -> np.ndarray:
    """Neighbours, 4-connected first: a diagonal counts only where no other way leads round.

    Gonzalez & Woods call it m-adjacency; it leaves no small triangles at bends and junctions.
    """
    stride = width + 2
    keys = points[:, 0] * stride + points[:, 1] + 1

    def find(step: int) -> tuple[np.ndarray, np.ndarray]:
        place = np.searchsorted(keys, keys + step)
        place[place == len(keys)] = 0
        return place, keys[place] == keys + step

    right, has_right = find(1)
    down, has_down = find(stride)
    _, has_left = find(-1)
    falling, has_falling = find(stride + 1)
    rising, has_rising = find(stride - 1)
    has_falling &= ~has_right & ~has_down
    has_rising &= ~has_left & ~has_down
    here = np.arange(len(keys))
    pairs = ((right, has_right), (down, has_down), (falling, has_falling), (rising, has_rising))
    return np.concatenate([np.column_stack([here[has], there[has]]) for there, has in pairs])


def _smooth(points: np.ndarray, graph: PixelGraph) -> np.ndarray:
    """Move each pixel along a branch towards its two neighbours; ends and junctions stay."""
    place = np.flatnonzero(graph.degree == 2)
    before = np.arange(len(points))
    after = before.copy()
    before[place], after[place] = graph.along(place)
    # One complex number a point: half as many steps as with rows and columns apart.
    at = points[:, 0] + 1j * points[:, 1]
    for _ in range(_ROUNDS):
        at = 0.5 * at + 0.25 * (at[before] + at[after])
    return np.column_stack([at.real, at.imag])
