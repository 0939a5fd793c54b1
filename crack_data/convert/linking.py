"""Which pieces of a mask are one crack: those whose ends face each other, and fragments beside it.

At a pixel of a piece's rim, the piece's own pixels around it, weighed by a Gaussian, have their
mean at some distance behind the pixel: at the end of a line 0.8 sigma behind it, at its side next
to nothing. So the vector from that mean to the pixel, the gradient of the blurred piece over its
value times sigma squared, tells how much of an end the rim is there and where it points.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import KDTree

DEFAULT_GAP = 64  # px
_NEAR = 5.0  # px: pieces this close are one crack whatever their shapes
# px: pieces up to this long are fragments, of a longer crack that is so near, or of the crack that
# they make with other fragments as near as the last.
_FRAGMENT_LENGTH, _FRAGMENT_REACH, _DASH_REACH = 60, 30, 20
_SIGMA_PER_WIDTH = 2.0  # the least sigma, times the width of wide pieces
_TIP = 0.7  # an end of a line is 1, a straight side about 0.2


class _View(NamedTuple):
    """How ends are looked at: close up, where they bend, and from afar, where a row of dashes ends.

    Two rims face each other by 1 where two ends lie in line, by about 0.6 where an end points at a
    side. From the second number of ``facing`` on the whole gap may lie between them, up to the
    first nothing.
    """

    sigma: float  # px
    facing: tuple[float, float]


_CLOSE, _FAR = _View(5.0, (0.72, 0.92)), _View(25.0, (0.65, 0.85))


class _Rims(NamedTuple):
    """The N pixels of a mask that have a neighbour outside it."""

    points: np.ndarray  # (N, 2) int32 x, y, piece by piece
    piece: np.ndarray  # (N,), the component that each belongs to


def link_pieces(labels: np.ndarray, count: int, gap: float) -> np.ndarray:
    """Number the cracks that connected components, "pieces", belong to.

    Pieces within 5 px of each other (or ``gap``, if that is less) are one crack. Each end of a
    crack is joined to the crack that it faces best within ``gap`` px of background. Fragments, no
    longer than 60 px, are joined to each other across up to 20 px, then, if they are still no
    longer, to the nearest longer crack within 30 px. At last ends are joined once more, as they
    look from afar. ``labels`` is HxW, 0 for background, 1..count for the pieces. Returns
    count + 1 numbers, int32: the crack of each piece, 1..K in order of their first pieces; 0 for 0.
    """
    if gap <= 0 or count < 2:
        return np.arange(count + 1, dtype=np.int32)
    gap = min(gap, float(np.hypot(*labels.shape)))
    mask = np.greater(labels, 0).view(np.uint8)
    core = cv2.erode(mask, None, borderType=cv2.BORDER_CONSTANT, borderValue=[0])  # by 3x3
    points = cv2.findNonZero(mask - core).reshape(-1, 2)
    piece = labels[points[:, 1], points[:, 0]]
    rims = _Rims(points[np.argsort(piece, kind="stable")], np.sort(piece))
    crack = cluster_pieces(labels, count, min(_NEAR, gap))
    close, far = partial(_join_facing, _CLOSE), partial(_join_facing, _FAR)
    for join in (close, _join_dashes, _join_fragments, far):
        crack = np.unique(crack, return_inverse=True)[1].astype(np.int32)
        if crack.max() > 1:
            crack = join(labels, crack, rims, gap)[crack]
    _, first, inverse = np.unique(crack[1:], return_index=True, return_inverse=True)
    return np.append(0, np.argsort(np.argsort(first))[inverse] + 1).astype(np.int32)


def renumber(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Replace each label of a map by its entry in ``numbers``, int32; 0 stays."""
    renumbered = np.zeros(labels.shape, np.int32)
    inside = labels > 0  # few: looking all of a large map up takes several times as long
    renumbered[inside] = numbers[labels[inside]]
    return renumbered


def cluster_pieces(labels: np.ndarray, count: int, gap: float) -> np.ndarray:
    """Number the clusters of pieces within ``gap`` px of each other, as `link_pieces` does."""
    mask = np.greater(labels, 0).view(np.uint8)
    across = np.arange(-int(gap / 2), int(gap / 2) + 1)
    disc = np.hypot(across, across[:, None]) <= gap / 2
    _, grown = cv2.connectedComponents(cv2.dilate(mask, disc.view(np.uint8)), connectivity=8)
    cluster = np.zeros(count + 1, np.int64)
    pixels = np.flatnonzero(mask)
    cluster[labels.ravel()[pixels]] = grown.ravel()[pixels]
    return cluster


def _join_dashes(labels: np.ndarray, crack: np.ndarray, rims: _Rims, gap: float) -> np.ndarray:
    """Number cracks 1..K alike that are fragments and near each other: (K + 1,).

    ``crack`` is the crack of each piece, here and below.
    """
    extent = _extents(crack, rims)
    is_short = extent <= _FRAGMENT_LENGTH
    joined = len(extent) + np.arange(len(extent))
    if np.count_nonzero(is_short) > 2:  # of which the first is the background
        short = renumber(labels, crack * is_short[crack])
        row = cluster_pieces(short, len(extent) - 1, min(_DASH_REACH, gap))
        joined[is_short] = row[is_short]
    return joined


def _join_fragments(_labels: np.ndarray, crack: np.ndarray, rims: _Rims, gap: float) -> np.ndarray:
    """Number those of cracks 1..K that are fragments as the nearest longer crack: (K + 1,).

    Of cracks that are equally near the longest; where these are equally long, none.
    """
    reach = min(_FRAGMENT_REACH, int(gap)) + 1  # from pixel to pixel
    extent, owner = _extents(crack, rims), crack[rims.piece]
    is_long = extent > _FRAGMENT_LENGTH
    joined = np.arange(len(extent))
    inside = is_long[owner]
    if inside.all() or not inside.any():
        return joined
    longer, tree = owner[inside], KDTree(rims.points[inside], balanced_tree=False)
    short, points = owner[~inside], rims.points[~inside]
    away = tree.query(points, distance_upper_bound=reach + 1e-6)[0]
    least = np.full(len(extent), np.inf)
    np.minimum.at(least, short, away)
    nearest = np.flatnonzero((away <= least[short] + 1e-6) & (away <= reach))
    around = tree.query_ball_point(points[nearest], away[nearest] + 1e-6)
    for number in np.unique(short[nearest]).tolist():
        found = np.concatenate(around[short[nearest] == number])
        other = np.unique(longer[found.astype(int)])
        longest = other[extent[other] == extent[other].max()]
        if len(longest) == 1:
            joined[number] = longest[0]
    return joined


def _extents(crack: np.ndarray, rims: _Rims) -> np.ndarray:
    """Diagonals of the boxes of cracks 1..K, px, after a 0 for the background."""
    first = np.searchsorted(rims.piece, np.arange(1, len(crack)))
    low, high = np.full((2, crack.max() + 1, 2), np.inf)
    np.minimum.at(low, crack[1:], np.minimum.reduceat(rims.points, first))
    np.minimum.at(high, crack[1:], np.minimum.reduceat(-rims.points, first))
    return np.append(0, np.hypot(*(1 - high - low)[1:].T))


def _join_facing(
    view: _View, labels: np.ndarray, crack: np.ndarray, rims: _Rims, gap: float
) -> np.ndarray:
    """Number cracks 1..K alike where an end faces another within ``gap`` px best: (K + 1,)."""
    cracks, points, owner = renumber(labels, crack), rims.points, crack[rims.piece]
    outward = np.zeros(points.shape)
    for number, own in _grouped(owner):
        outward[own] = _outward(cracks, number, points[own], view.sigma)
    length = np.hypot(*outward.T)
    is_tip = np.zeros(cracks.shape, np.uint8)
    is_tip[points[:, 1], points[:, 0]] = length > _TIP
    # The number of the end that a pixel belongs to; ends of two cracks never touch.
    end = cv2.connectedComponents(is_tip, connectivity=8)[1][points[:, 1], points[:, 0]]
    joined = np.arange(crack.max() + 1)
    # What is too little of an end faces none, however that lies.
    able = np.flatnonzero(length > 2 * view.facing[0] - length.max())
    tree = KDTree(points[able], balanced_tree=False)
    for number, tips in _grouped(end):
        if number == 0:
            continue
        low, high = points[tips].min(axis=0), points[tips].max(axis=0)
        far = (high - low).max() / 2 + gap + 1
        others = able[tree.query_ball_point((low + high) / 2, far, p=np.inf)]
        others = others[owner[others] != owner[tips[0]]]
        if len(others):
            pixels = (points[tips], outward[tips], points[others], outward[others])
            for other in np.unique(owner[others[_faced(view, *pixels, gap)]]).tolist():
                joined[joined == joined[other]] = joined[owner[tips[0]]]
    return joined


def _grouped(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each value, in order, and the places where it stands."""
    order = np.argsort(values, kind="stable")
    distinct, first = np.unique(values[order], return_index=True)
    yield from zip(distinct.tolist(), np.split(order, first[1:]), strict=True)


def _faced(
    view: _View, tips: np.ndarray, ahead: np.ndarray, rims: np.ndarray, back: np.ndarray, gap: float
) -> np.ndarray:
    """Which of some pixels of rims an end faces best; pixels (x, y) and their vectors, Nx2."""
    x, y = (rims[:, axis] - tips[:, None, axis] for axis in (0, 1))
    distance = np.hypot(x, y)
    turn_x, turn_y = (ahead[:, None, axis] - back[:, axis] for axis in (0, 1))
    facing = (turn_x * x + turn_y * y) / (2 * distance)
    low, high = view.facing
    needed = (distance - 1) / np.clip((facing - low) / (high - low), 1e-6, 1)
    needed[distance > gap + 1] = np.inf
    return (needed <= min(needed.min() + 1e-6, gap)).any(axis=0)


def _outward(cracks: np.ndarray, number: int, points: np.ndarray, sigma: float) -> np.ndarray:
    """Vectors outward at the N pixels of a crack's rim, Nx2; ``sigma`` is the least, in px."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0) + 1
    part = (cracks[top:bottom, left:right] == number).view(np.uint8)
    width = 2 * cv2.countNonZero(part) / len(points)  # a band has two rims
    sigma = max(sigma, _SIGMA_PER_WIDTH * width)
    # A wide sigma needs no fine pixels: at a third of the size 25 px move the vectors by .02.
    scale = max(1, int(sigma / 8))
    height, width = part.shape
    margins = (2 * scale, 2 * scale + -height % scale, 2 * scale, 2 * scale + -width % scale)
    mask = cv2.copyMakeBorder(part, *margins, cv2.BORDER_CONSTANT, value=[0]).astype(np.float32)
    x, y = (points - (left - 2 * scale, top - 2 * scale)).T
    small = (mask.shape[1] // scale, mask.shape[0] // scale)
    blurred = cv2.resize(mask, small, interpolation=cv2.INTER_AREA)
    size = (2 * round(2.5 * sigma / scale) + 1,) * 2
    blurred = cv2.GaussianBlur(blurred, size, sigma / scale, borderType=cv2.BORDER_CONSTANT)
    blurred = cv2.resize(blurred, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    here, before, after, above, below = (
        blurred[y + dy, x + dx].astype(np.float64)
        for dx, dy in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    )
    slope = np.stack([before - after, above - below], axis=1)
    return slope * (sigma / (2 * 0.8 * here))[:, None]
