"""Which pieces of a mask are one crack: those whose ends face each other, and fragments beside it.

At a pixel of a piece's rim, the piece's own pixels around it, weighed by a Gaussian, have their
mean at some distance behind the pixel: at the end of a line 0.8 sigma behind it, at its side next
to nothing. So the vector from that mean to the pixel, the gradient of the blurred piece over its
value times sigma squared, tells how much of an end the rim is there and where it points.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy.ndimage import find_objects
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


def link_pieces(labels: np.ndarray, count: int, gap: float) -> np.ndarray:
    """Number the cracks that connected components, "pieces", belong to.

    Pieces within 5 px of each other (or ``gap``, if that is less) are one crack. Each end of a
    crack is joined to the crack that it faces best within ``gap`` px of background. Fragments, no
    longer than 60 px, are joined to each other across up to 20 px, then, if they are still no
    longer, to the nearest longer crack within 30 px. At last ends are joined once more, as they
    look from afar. ``labels`` is HxW, 0 for background, 1..count for the pieces. Returns count + 1
    numbers, int32: the crack of each piece, 1..K in order of their first pieces; 0 for 0.
    """
    if gap <= 0 or count < 2:
        return np.arange(count + 1, dtype=np.int32)
    gap = min(gap, float(np.hypot(*labels.shape)))
    crack = cluster_pieces(labels, count, min(_NEAR, gap))
    close, far = partial(_join_facing, _CLOSE), partial(_join_facing, _FAR)
    for join in (close, _join_dashes, _join_fragments, far):
        crack = np.unique(crack, return_inverse=True)[1].astype(np.int32)
        if crack.max() > 1:
            crack = join(crack.take(labels), gap)[crack]
    _, first, inverse = np.unique(crack[1:], return_index=True, return_inverse=True)
    return np.append(0, np.argsort(np.argsort(first))[inverse] + 1).astype(np.int32)


def cluster_pieces(labels: np.ndarray, count: int, gap: float) -> np.ndarray:
    """Number the clusters of pieces within ``gap`` px of each other, as `link_pieces` does."""
    mask = np.greater(labels, 0)
    across = np.arange(-int(gap / 2), int(gap / 2) + 1)
    disc = np.hypot(across, across[:, None]) <= gap / 2
    grown = cv2.dilate(mask.view(np.uint8), disc.view(np.uint8))
    _, grown_labels = cv2.connectedComponents(grown, connectivity=8)
    cluster = np.zeros(count + 1, np.int64)
    pixels = np.flatnonzero(mask)
    cluster[labels.ravel()[pixels]] = grown_labels.ravel()[pixels]
    return cluster


def _join_dashes(cracks: np.ndarray, gap: float) -> np.ndarray:
    """Number cracks 1..K alike that are fragments and near each other: (K + 1,)."""
    extent = _extents(find_objects(cracks))
    is_short = extent <= _FRAGMENT_LENGTH
    row = cluster_pieces(cracks * is_short[cracks], len(extent) - 1, min(_DASH_REACH, gap))
    return np.where(is_short, row, len(extent) + np.arange(len(extent)))


def _join_fragments(cracks: np.ndarray, gap: float) -> np.ndarray:
    """Number those of cracks 1..K that are fragments as the nearest longer crack: (K + 1,).

    Of cracks that are equally near the longest; where these are equally long, none.
    """
    reach = min(_FRAGMENT_REACH, int(gap)) + 1  # from pixel to pixel
    boxes = find_objects(cracks)
    extent = _extents(boxes)
    is_long = extent > _FRAGMENT_LENGTH
    joined = np.arange(len(extent))
    for number in np.flatnonzero(~is_long)[1:].tolist() if is_long.any() else []:
        around = tuple(slice(max(x.start - reach, 0), x.stop + reach) for x in boxes[number - 1])
        other = (cracks[around] != number).view(np.uint8)
        away = cv2.distanceTransform(other, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near = (away <= reach) & is_long[cracks[around]]
        nearest = np.unique(cracks[around][near & (away <= away[near].min(initial=np.inf))])
        longest = nearest[extent[nearest] == extent[nearest].max(initial=0)]
        if len(longest) == 1:
            joined[number] = longest[0]
    return joined


def _extents(boxes: list[Any]) -> np.ndarray:
    """Diagonals of the boxes of `find_objects`, px, after a 0 for the background."""
    return np.array([0, *(np.hypot(*(side.stop - side.start for side in box)) for box in boxes)])


def _join_facing(view: _View, cracks: np.ndarray, gap: float) -> np.ndarray:
    """Number cracks 1..K alike where an end faces another within ``gap`` px best: (K + 1,)."""
    mask = np.greater(cracks, 0).view(np.uint8)
    core = cv2.erode(mask, None, borderType=cv2.BORDER_CONSTANT, borderValue=[0])  # by 3x3
    y, x = np.nonzero(mask > core)  # the rims' pixels; below, in order of the cracks that own them
    order = np.argsort(cracks[y, x], kind="stable")
    points, owner = np.stack([x, y], axis=1)[order], cracks[y, x][order]
    areas, rims = (np.bincount(x) for x in (cracks.ravel(), owner))
    outward, end = np.zeros(points.shape), np.zeros(len(points), np.int64)
    last = 0
    for number in range(1, len(areas)):
        part = slice(*np.searchsorted(owner, [number, number + 1]).tolist())
        width = 2 * areas[number] / rims[number]  # a band has two rims
        sigma = max(view.sigma, _SIGMA_PER_WIDTH * width)
        outward[part], ends = _outward(cracks, number, points[part], sigma)
        end[part] = np.where(ends > 0, ends + last, 0)
        last += ends.max(initial=0)
    length = np.hypot(*outward.T)
    joined = np.arange(len(areas))
    by_end, tree = np.argsort(end, kind="stable"), KDTree(points)
    starts = np.searchsorted(end[by_end], np.arange(last + 2))
    for number in range(1, last + 1):
        tips = by_end[starts[number] : starts[number + 1]]
        corners = np.array([points[tips].min(axis=0), points[tips].max(axis=0)])
        far = np.ptp(corners, axis=0).max() / 2 + gap + 1
        around = np.array(tree.query_ball_point(corners.mean(axis=0), far, p=np.inf))
        # What is too little of an end faces none, however that lies.
        able = length[around] > 2 * view.facing[0] - length[tips].max()
        others = around[able & (owner[around] != owner[tips[0]])]
        if len(others):
            pixels = (points[tips], outward[tips], points[others], outward[others])
            for other in np.unique(owner[others[_faced(view, *pixels, gap)]]).tolist():
                joined[joined == joined[other]] = joined[owner[tips[0]]]
    return joined


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


def _outward(
    cracks: np.ndarray, number: int, points: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors outward at some pixels of a crack's rim, Nx2, and the number of each one's end, N."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0) + 1
    part = (cracks[top:bottom, left:right] == number).view(np.uint8)
    mask = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[0])
    x, y = (points - (left - 1, top - 1)).T
    size = (2 * round(2.5 * sigma) + 1,) * 2
    blurred = cv2.GaussianBlur(mask.astype(np.float32), size, sigma, borderType=cv2.BORDER_CONSTANT)
    here, before, after, above, below = (
        blurred[y + dy, x + dx].astype(np.float64)
        for dx, dy in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    )
    slope = np.stack([before - after, above - below], axis=1)
    outward = slope * (sigma / (2 * 0.8 * here))[:, None]
    tips = np.zeros_like(mask)
    tips[y, x] = np.hypot(*outward.T) > _TIP
    _, ends = cv2.connectedComponents(tips, connectivity=8)
    return outward, ends[y, x]
