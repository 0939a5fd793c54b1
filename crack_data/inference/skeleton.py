"""The centreline of a mask as a graph of pixels, without arrays of the photo's size beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from skimage.morphology import skeletonize

# The mask is thinned at twice its resolution, where Zhang and Suen's method loses no diagonal of
# two px and an even width has a middle; and block by block. Within a block the result is that of
# the whole mask, as thinning carries 2 px further per px of half width: exact for cracks up to
# _HALO px wide.
_BLOCK = 1024
_HALO = 128

# A side branch shorter than _SPUR_RADII x the half width where it leaves, plus _SPUR_PX, is a
# bump of the rim, not a crack.
_SPUR_RADII = 1.5
_SPUR_PX = 2.0

# Rounds of [1 2 1] / 4 smoothing: a Gaussian of about 2 px, which takes the pixel steps out of a
# slanted line (up to 8 % of its length) and leaves curves of 15 px radius.
_ROUNDS = 40


@dataclass(frozen=True)
class Centreline:
    """Pixels of a pruned skeleton and how they connect.

    Attributes:
        points: (N, 2) row, column in px, whole at pixel centres; smoothed along the branches.
        radius: (N,) half the width of the mask there, px.
        edges: (M, 2) positions in ``points`` of neighbours.
    """

    points: np.ndarray
    radius: np.ndarray
    edges: np.ndarray

    @cached_property
    def degree(self) -> np.ndarray:
        """(N,) number of neighbours: 1 at an end, 2 along a branch, more at a junction."""
        return np.bincount(self.edges.ravel(), minlength=len(self.points))

    @property
    def length(self) -> float:
        """Of all edges together, px; it ends about half a width short of the mask's ends."""
        steps = self.points[self.edges[:, 0]] - self.points[self.edges[:, 1]]
        return float(np.linalg.norm(steps, axis=1).sum())

    def neighbours(self, point: int) -> list[int]:
        """Positions of a point's neighbours."""
        start, stop = self._graph.indptr[point : point + 2]
        return self._graph.indices[start:stop].tolist()

    @cached_property
    def _graph(self) -> csr_array:
        graph = _graph(self.edges, len(self.points))
        return (graph + graph.T).tocsr()


def centreline(mask: np.ndarray) -> Centreline:
    """Thin a mask, drop side branches that are bumps of its rim, and smooth.

    Args:
        mask: bool (H, W), at least one pixel set.
    """
    rows, columns, radius = (np.concatenate(x) for x in zip(*_thin(mask), strict=True))
    order = np.lexsort((columns, rows))
    points, radius = np.column_stack([rows, columns])[order], radius[order]
    edges = _edges(points, 2 * mask.shape[1])
    points, radius, edges = _prune(points / 2.0 - 0.25, radius, edges)
    return Centreline(_smooth(points, edges), radius, edges)


def _thin(mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows and columns, in half px, and radii, in px, of the skeleton's pixels, block by block."""
    height, width = mask.shape
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _BLOCK):
            top, left = max(0, y - _HALO), max(0, x - _HALO)
            window = mask[top : y + _BLOCK + _HALO, left : x + _BLOCK + _HALO].astype(np.uint8)
            fine = cv2.resize(np.pad(window, 1), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
            core = skeletonize(fine.astype(bool))
            distance = cv2.distanceTransform(fine, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            rows, columns = np.nonzero(core[2:-2, 2:-2])
            rows, columns = rows + 2 * top, columns + 2 * left
            inside = (rows // 2 // _BLOCK == y // _BLOCK) & (columns // 2 // _BLOCK == x // _BLOCK)
            rows, columns = rows[inside], columns[inside]
            yield rows, columns, distance[rows - 2 * top + 2, columns - 2 * left + 2] / 2.0


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


def _prune(
    points: np.ndarray, radius: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop spurs until none is left."""
    while True:
        keep = ~_spurs(points, radius, edges)
        if keep.all():
            return points, radius, edges
        number = np.cumsum(keep) - 1
        points, radius = points[keep], radius[keep]
        edges = number[edges[keep[edges].all(axis=1)]]


def _spurs(points: np.ndarray, radius: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which pixels belong to side branches that end freely and are too short, bool (N,)."""
    count = len(points)
    degree = np.bincount(edges.ravel(), minlength=count)
    at_junction = (degree >= 3)[edges]
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    inner = edges[~at_junction.any(axis=1)]
    _, label = connected_components(_graph(inner, count), directed=False)
    branch_length = np.bincount(label[edges[:, 0]], length * ~at_junction.any(axis=1), count)
    leaving = at_junction.sum(axis=1) == 1
    outer = np.where(at_junction[leaving, 0], edges[leaving, 1], edges[leaving, 0])
    junction = np.where(at_junction[leaving, 0], edges[leaving, 0], edges[leaving, 1])
    np.add.at(branch_length, label[outer], length[leaving])
    limit = np.zeros(count)
    np.maximum.at(limit, label[outer], _SPUR_RADII * radius[junction] + _SPUR_PX)
    has_end = np.zeros(count, dtype=bool)
    has_end[label[degree == 1]] = True
    return (has_end & (branch_length < limit))[label] & (degree < 3)


def _graph(edges: np.ndarray, count: int) -> csr_array:
    ones = np.ones(len(edges))
    return coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()


def _smooth(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Move each pixel along a branch towards its two neighbours; ends and junctions stay."""
    graph = _graph(edges, len(points))
    graph = graph + graph.T
    along = (np.bincount(edges.ravel(), minlength=len(points)) == 2)[:, None]
    for _ in range(_ROUNDS):
        points = np.where(along, 0.5 * points + 0.25 * (graph @ points), points)
    return points
