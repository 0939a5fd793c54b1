"""Which pieces of a mask belong to one crack: those whose ends face each other across a gap.

At a pixel of a piece's rim, the piece's own pixels around it, weighed by a Gaussian, have their
mean at some distance behind the pixel: at the end of a line 0.8 sigma behind it, at its side next
to nothing. So the vector from that mean to the pixel tells how much of an end the rim is there and
where it points, without a centreline, for noisy rims and wide cracks too. It is the gradient of the
blurred piece over its value, times sigma squared.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Numbers = npt.NDArray[Any]  # of integers
Floats = npt.NDArray[np.float64]

DEFAULT_GAP = 36  # px
_NEAR = 5.0  # px: pieces this close are one crack whatever their shapes
_SIGMA, _SIGMA_PER_WIDTH = 5.0, 2.0  # px, and times the width of wide pieces
_TIP = 0.7  # an end of a line is 1, a straight side about 0.2
# How much two rims face each other: 1 for two ends in line, about 0.6 for an end and a side.
# From the second number on the whole gap may lie between them, up to the first nothing.
_FACING = (0.65, 0.85)


def link_pieces(labels: Numbers, count: int, gap: float) -> Numbers:
    """Number the cracks that connected components, "pieces", belong to.

    Each end of a piece is joined to the piece that it faces best within ``gap`` px of background;
    pieces within 5 px of each other (or ``gap``, if that is less) are joined in any case.

    Args:
        labels: HxW, 0 for background, 1..count for the pieces.
        count: number of pieces.
        gap: px; 0 makes each piece a crack of its own.

    Returns:
        Array of count + 1: the crack of each piece, 1..K in order of their first pieces; 0 for 0.
    """
    if gap <= 0 or count < 2:
        return np.arange(count + 1)
    away = distance_to_pieces(labels)
    crack = cluster_pieces(labels, count, min(_NEAR, gap), away)
    neighbours = cluster_pieces(labels, count, gap, away)
    # Only pieces with others in reach that are not of their crack already are looked at.
    some_crack = np.zeros(int(neighbours.max()) + 1, np.int64)
    some_crack[neighbours] = crack
    mixed = np.unique(neighbours[some_crack[neighbours] != crack])
    pairs = _facing_pairs(labels, np.flatnonzero(np.isin(neighbours, mixed)), gap)
    joined = crack[pairs]
    size = int(crack.max()) + 1
    graph = coo_array((np.ones(joined.shape[1]), joined), shape=(size, size))
    return _numbered(connected_components(graph, directed=False)[1][crack])


def distance_to_pieces(labels: Numbers) -> npt.NDArray[np.float32]:
    """Distance of each pixel of a label map, HxW, to the nearest piece, px."""
    background = np.equal(labels, 0).view(np.uint8)
    away: Any = cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return away


def cluster_pieces(
    labels: Numbers, count: int, gap: float, away: npt.NDArray[np.float32]
) -> Numbers:
    """Tell which pieces lie within ``gap`` px of each other, at once or by way of others.

    ``away`` is what `distance_to_pieces` returns for the same labels. Returns an array of
    count + 1: a number above 0 for each piece, the same within a cluster; 0 for 0.
    """
    _, grown = cv2.connectedComponents((away <= gap / 2).view(np.uint8), connectivity=8)
    inside = np.flatnonzero(away == 0)
    cluster = np.zeros(count + 1, np.int64)
    cluster[labels.ravel()[inside]] = grown.ravel()[inside]
    return cluster


def _facing_pairs(labels: Numbers, pieces: Numbers, gap: float) -> Numbers:
    """Pairs of pieces, 2xN: each end with what it faces best within ``gap`` px, if anything."""
    if not len(pieces):
        return np.zeros((2, 0), np.int64)
    boxes = ndimage.find_objects(labels)
    rims = [_rim(labels, piece, boxes[piece - 1]) for piece in pieces.tolist()]
    points, outward, end = (np.concatenate(parts) for parts in zip(*rims, strict=True))
    owner = np.repeat(pieces, [len(rim[0]) for rim in rims])
    first_end = np.cumsum([0] + [int(rim[2].max(initial=0)) for rim in rims])
    end = np.where(end > 0, end + np.repeat(first_end[:-1], [len(rim[0]) for rim in rims]), 0)
    tips = np.flatnonzero(end)
    if not len(tips):
        return np.zeros((2, 0), np.int64)
    near = cKDTree(points[tips]).sparse_distance_matrix(
        cKDTree(points), gap + 1, output_type="ndarray"
    )
    a, b = tips[near["i"]], near["j"]
    other = owner[a] != owner[b]
    a, b = a[other], b[other]
    step = points[b] - points[a]
    distance = np.hypot(*step.T)
    facing = ((outward[a] - outward[b]) * step).sum(axis=1) / (2 * distance)
    low, high = _FACING
    needed = (distance - 1) / np.clip((facing - low) / (high - low), 1e-6, 1)
    least = np.full(int(end.max()) + 1, np.inf)
    np.minimum.at(least, end[a], needed)
    best = needed <= np.minimum(least[end[a]] + 1e-6, gap)
    return np.stack([owner[a[best]], owner[b[best]]])


def _rim(
    labels: Numbers, piece: int, box: tuple[slice, slice]
) -> tuple[Floats, Floats, npt.NDArray[np.int32]]:
    """The rim of a piece.

    Returns:
        Its pixels, Nx2 (x, y); vectors outward, Nx2, of length 1 at the end of a line; the number
        of the end that each pixel belongs to, N, 0 for none.
    """
    mask = np.pad((labels[box] == piece).view(np.uint8), 2)
    y, x = np.nonzero(mask - cv2.erode(mask, np.ones((3, 3), np.uint8)))
    width = 2 * cv2.countNonZero(mask) / len(x)  # a band has two rims
    sigma = max(_SIGMA, _SIGMA_PER_WIDTH * width)
    size = 2 * round(2.5 * sigma) + 1
    blurred = cv2.GaussianBlur(
        mask.astype(np.float32), (size, size), sigma, borderType=cv2.BORDER_CONSTANT
    ).astype(np.float64)
    slope = np.stack(
        [blurred[y, x - 1] - blurred[y, x + 1], blurred[y - 1, x] - blurred[y + 1, x]], axis=1
    )
    outward = slope * (sigma / (2 * 0.8 * blurred[y, x]))[:, None]
    tips = np.zeros_like(mask)
    tips[y, x] = np.hypot(*outward.T) > _TIP
    _, ends = cv2.connectedComponents(tips, connectivity=8)
    corner = (box[1].start - 2, box[0].start - 2)
    return np.stack([x, y], axis=1) + np.array(corner, float), outward, ends[y, x]


def _numbered(cluster: Numbers) -> Numbers:
    """Renumber clusters 1, 2, ... in order of the first piece of each; that of piece 0 is 0."""
    _, first, inverse = np.unique(cluster[1:], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return np.concatenate([np.zeros(1, np.int64), rank[inverse]])
