"""Which pieces of a mask are one crack: those whose ends face each other, and fragments beside it.

At a pixel of a piece's rim, the piece's own pixels around it, weighed by a Gaussian, have their
mean at some distance behind the pixel: at the end of a line 0.8 sigma behind it, at its side next
to nothing. So the vector from that mean to the pixel, the gradient of the blurred piece over its
value times sigma squared, tells how much of an end the rim is there and where it points.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects
from scipy.spatial import KDTree

DEFAULT_GAP = 64  # px
_NEAR = 5.0  # px: pieces this close are one crack whatever their shapes
_SIGMA, _SIGMA_PER_WIDTH = 5.0, 2.0  # px, and times the width of wide pieces
_TIP = 0.7  # an end of a line is 1, a straight side about 0.2
# How much two rims face each other: 1 for two ends in line, about 0.6 for an end and a side.
# From the second number on the whole gap may lie between them, up to the first nothing.
_FACING = (0.72, 0.92)
# px: pieces up to this long belong to a longer crack that is this near.
_FRAGMENT_LENGTH, _FRAGMENT_REACH = 60, 30


def link_pieces(labels: np.ndarray, count: int, gap: float) -> np.ndarray:
    """Number the cracks that connected components, "pieces", belong to.

    Each end of a piece is joined to the piece that it faces best within ``gap`` px of background;
    pieces within 5 px of each other (or ``gap``, if that is less) are joined in any case, and what
    is then no longer than 60 px to the nearest longer crack within 30 px (or ``gap``).
    ``labels`` is HxW, 0 for background, 1..count for the pieces. Returns count + 1 numbers, int32:
    the crack of each piece, 1..K in order of their first pieces; 0 for 0.
    """
    if gap <= 0 or count < 2:
        return np.arange(count + 1, dtype=np.int32)
    gap = min(gap, float(np.hypot(*labels.shape)))
    crack = cluster_pieces(labels, count, min(_NEAR, gap))
    if np.ptp(crack[1:]):
        for piece, other in _facing_pairs(labels, crack, gap):
            crack[crack == crack[other]] = crack[piece]
    if np.ptp(crack[1:]):
        crack = _join_fragments(labels, crack, min(_FRAGMENT_REACH, int(gap)))
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


def _join_fragments(labels: np.ndarray, crack: np.ndarray, reach: int) -> np.ndarray:
    """Number what is too short for a crack of its own as the nearest crack within ``reach`` px.

    Of cracks that are equally near the longest; where these are equally long, none.
    """
    crack = np.unique(crack, return_inverse=True)[1].astype(np.int32)
    cracks = crack.take(labels)
    boxes = find_objects(cracks)
    extent = np.array([0, *(np.hypot(*(side.stop - side.start for side in box)) for box in boxes)])
    is_long = extent > _FRAGMENT_LENGTH
    joined = np.arange(len(extent))
    for number in np.flatnonzero(~is_long)[1:].tolist() if is_long.any() else []:
        sides = boxes[number - 1]
        around = tuple(slice(max(x.start - reach - 1, 0), x.stop + reach + 1) for x in sides)
        other = (cracks[around] != number).view(np.uint8)
        away = cv2.distanceTransform(other, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near = (away <= reach + 1) & is_long[cracks[around]]
        nearest = np.unique(cracks[around][near & (away <= away[near].min(initial=np.inf))])
        longest = nearest[extent[nearest] == extent[nearest].max(initial=0)]
        if len(longest) == 1:
            joined[number] = longest[0]
    return joined[crack]


def _facing_pairs(labels: np.ndarray, crack: np.ndarray, gap: float) -> set[tuple[int, int]]:
    """Pairs of pieces: each end with what it faces best within ``gap`` px, if anything."""
    mask = np.greater(labels, 0).view(np.uint8)
    core = cv2.erode(mask, None, borderType=cv2.BORDER_CONSTANT, borderValue=[0])  # by 3x3
    y, x = np.nonzero(mask > core)  # the rims' pixels; below, in order of the pieces that own them
    order = np.argsort(labels[y, x], kind="stable")
    points, owner = np.stack([x, y], axis=1)[order], labels[y, x][order]
    areas, rims = (np.bincount(x, minlength=len(crack)) for x in (labels.ravel(), owner))
    outward, end = np.zeros(points.shape), np.zeros(len(points), np.int64)
    last = 0
    for piece in np.unique(owner).tolist():
        part = slice(*np.searchsorted(owner, [piece, piece + 1]).tolist())
        width = 2 * areas[piece] / rims[piece]  # a band has two rims
        outward[part], ends = _outward(labels, piece, points[part], width)
        end[part] = np.where(ends > 0, ends + last, 0)
        last += ends.max(initial=0)
    length = np.hypot(*outward.T)
    pairs = set()
    by_end, tree = np.argsort(end, kind="stable"), KDTree(points)
    starts = np.searchsorted(end[by_end], np.arange(last + 2))
    for number in range(1, last + 1):
        tips = by_end[starts[number] : starts[number + 1]]
        piece = int(owner[tips[0]])
        corners = np.array([points[tips].min(axis=0), points[tips].max(axis=0)])
        far = np.ptp(corners, axis=0).max() / 2 + gap + 1
        around = np.array(tree.query_ball_point(corners.mean(axis=0), far, p=np.inf))
        # What is too little of an end faces none, however that lies.
        able = length[around] > 2 * _FACING[0] - length[tips].max()
        others = around[able & (owner[around] != piece)]
        if (crack[owner[others]] != crack[piece]).any():
            best = _faced(points[tips], outward[tips], points[others], outward[others], gap)
            pairs |= {(piece, other) for other in owner[others[best]].tolist()}
    return pairs


def _faced(
    tips: np.ndarray, ahead: np.ndarray, others: np.ndarray, back: np.ndarray, gap: float
) -> np.ndarray:
    """Which of some pixels of rims an end faces best; pixels (x, y) and their vectors, Nx2."""
    x, y = (others[:, axis] - tips[:, None, axis] for axis in (0, 1))
    distance = np.hypot(x, y)
    turn_x, turn_y = (ahead[:, None, axis] - back[:, axis] for axis in (0, 1))
    facing = (turn_x * x + turn_y * y) / (2 * distance)
    low, high = _FACING
    needed = (distance - 1) / np.clip((facing - low) / (high - low), 1e-6, 1)
    needed[distance > gap + 1] = np.inf
    return (needed <= min(needed.min() + 1e-6, gap)).any(axis=0)


def _outward(
    labels: np.ndarray, piece: int, points: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors outward at some pixels of a piece's rim, Nx2, and the number of each one's end, N."""
    sigma = max(_SIGMA, _SIGMA_PER_WIDTH * width)
    reach = round(2.5 * sigma)
    left, top = np.maximum(points.min(axis=0) - reach - 1, 0)
    right, bottom = points.max(axis=0) + reach + 2
    part = (labels[top:bottom, left:right] == piece).view(np.uint8)
    mask = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[0])
    x, y = (points - (left - 1, top - 1)).T
    size = (2 * reach + 1,) * 2
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
