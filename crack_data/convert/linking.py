"""Which pieces of a mask are one crack: those whose ends face each other, and fragments beside it.

At a pixel of a piece's rim, the piece's own pixels around it, weighed by a Gaussian, have their
mean at some distance behind the pixel: at the end of a line 0.8 sigma behind it, at its side next
to nothing. So the vector from that mean to the pixel, the gradient of the blurred piece over its
value times sigma squared, tells how much of an end the rim is there and where it points.
"""

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
_PLACE = 256  # px: ends are compared with rims in squares of this side, for speed alone
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
    order = np.argsort(piece, kind="stable")
    rims = _Rims(points[order], piece[order])
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
    mask = labels > 0
    across = np.arange(-int(gap / 2), int(gap / 2) + 1)
    disc = np.hypot(across, across[:, None]) <= gap / 2
    grown = cv2.dilate(mask.view(np.uint8), disc.view(np.uint8))
    _, grown = cv2.connectedComponents(grown, connectivity=8)
    cluster = np.zeros(count + 1, np.int64)
    cluster[labels[mask]] = grown[mask]
    return cluster


def _join_dashes(labels: np.ndarray, crack: np.ndarray, rims: _Rims, gap: float) -> np.ndarray:
    """Number cracks 1..K alike that are fragments and near each other: (K + 1,).

    ``crack`` is the crack of each piece, here and below.
    """
    extent = _extents(crack, rims)
    short, pieces = extent <= _FRAGMENT_LENGTH, np.arange(len(crack))
    if np.count_nonzero(short) <= 2:  # the background and one
        return np.arange(len(extent))
    is_short = short[crack]
    near = cluster_pieces(renumber(labels, pieces * is_short), pieces[-1], min(_DASH_REACH, gap))
    # A crack's pieces may lie in several clusters: what these connect is one.
    return _connected(crack[is_short], len(extent) + near[is_short], len(extent) + len(crack))


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
    points, owner = rims.points, crack[rims.piece]
    outward = np.zeros(points.shape)
    order = np.argsort(owner, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        pieces = crack == owner[own[0]]
        outward[own] = _outward(labels, pieces, points[own], view.sigma)
    tips = np.flatnonzero(np.hypot(*outward.T) > _TIP)
    if not len(tips):
        return np.arange(crack.max() + 1)
    # The end that a pixel belongs to: tips that touch; those of two cracks never do.
    touching = KDTree(points[tips]).query_pairs(1.5, output_type="ndarray")
    end = np.zeros(len(points), np.int64)
    end[tips] = _connected(touching[:, 0], touching[:, 1], len(tips))
    here, there, needed = _faced(view, points, outward, owner, tips, gap)
    least = np.full(end.max() + 1, np.inf)
    np.minimum.at(least, end[here], needed)
    best = needed <= least[end[here]] + 1e-6
    return _connected(owner[here[best]], owner[there[best]], crack.max() + 1)


def _faced(
    view: _View,
    points: np.ndarray,
    outward: np.ndarray,
    owner: np.ndarray,
    tips: np.ndarray,
    gap: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pixels of other cracks' rims the ``tips`` face within ``gap`` px of background.

    Returns indices of pairs of rim pixels, and the gap that each pair needs, px. The rims' pixels
    have N ``points``, vectors ``outward`` and cracks ``owner``.
    """
    (low, high), length = view.facing, np.hypot(*outward.T)
    # Two that together are too little of an end do not face each other, however they lie.
    able = np.flatnonzero(length > 2 * low - length.max())
    able = able[np.argsort(points[able, 0], kind="stable")]
    # Crack by crack, those of one place, and few at a time.
    groups = np.stack([owner[tips], *(points[tips] // _PLACE).T])
    order = np.lexsort(groups)
    tips, changes = tips[order], np.diff(groups[:, order]).any(axis=0)
    starts = [np.flatnonzero(changes) + 1, np.arange(128, len(tips), 128)]
    x, found = points[able, 0].astype(float), []
    for some in np.split(tips, np.unique(np.concatenate(starts))):
        (left, top), (right, bottom) = points[some].min(0) - gap - 1, points[some].max(0) + gap + 1
        near = able[slice(*np.searchsorted(x, (left, right + 1)))]
        y = points[near, 1]
        near = near[(owner[near] != owner[some[0]]) & (y >= top) & (y <= bottom)]
        squared = sum((points[near, i] - points[some, i, None]) ** 2 for i in (0, 1))
        may = squared <= (gap + 1) ** 2
        may &= length[near] > 2 * low - length[some, None]
        first, second = np.nonzero(may)
        here, there = some[first], near[second]
        turn, ahead = outward[here] - outward[there], points[there] - points[here]
        distance = np.hypot(*ahead.T)
        facing = (turn * ahead).sum(axis=1) / (2 * distance)
        needed = (distance - 1) / np.clip((facing - low) / (high - low), 1e-6, 1)
        within = needed <= gap
        found.append((here[within], there[within], needed[within]))
    here, there, needed = (np.concatenate(side) for side in zip(*found, strict=True))
    return here, there, needed


def _connected(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Number 0..count - 1 alike where pairs connect them, (count,)."""
    number = np.arange(count)
    while (number[first] != number[second]).any():
        least = np.minimum(number[first], number[second])
        for some in (number[first], number[second]):
            np.minimum.at(number, some, least)
        number = number[number]
    return number


def _outward(
    labels: np.ndarray, pieces: np.ndarray, points: np.ndarray, sigma: float
) -> np.ndarray:
    """Vectors outward at the N pixels of a crack's rim, Nx2; ``sigma`` is the least, in px.

    ``pieces`` are the labels of the crack, as a bool for each label.
    """
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0) + 1
    part = pieces.take(labels[top:bottom, left:right]).view(np.uint8)
    width = 2 * cv2.countNonZero(part) / len(points)  # a band has two rims
    sigma = max(sigma, _SIGMA_PER_WIDTH * width)
    # A wide sigma needs no fine pixels: at a third of the size 25 px move the vectors by .02.
    scale = max(1, int(sigma / 8))
    margin = 2 * scale
    margins = (margin, margin, margin, margin)
    mask = cv2.copyMakeBorder(part, *margins, cv2.BORDER_CONSTANT, value=[0])
    x, y = (points - (left - margin, top - margin)).T
    size = mask.shape[::-1]
    small = [-(-side // scale) for side in size]
    sigmas = [sigma * few / side for few, side in zip(small, size, strict=True)]
    kernel = [2 * round(2.5 * x) + 1 for x in sigmas]
    blurred = cv2.resize(mask.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(
        blurred, kernel, sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_CONSTANT
    )
    blurred = cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR)
    here, before, after, above, below = (
        blurred[y + dy, x + dx].astype(np.float64)
        for dx, dy in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    )
    slope = np.stack([before - after, above - below], axis=1)
    return slope * (sigma / (2 * 0.8 * here))[:, None]
