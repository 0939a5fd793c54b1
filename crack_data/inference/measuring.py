"""Centreline, length, width and orientation of a crack, by thinning and distance transform."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from .prediction import CrackInstance

# How far the centreline may leave the pixels' middles, px: takes the steps out of a slanted line.
_TOLERANCE = 1.0
# A side branch shorter than _RADII x half the width + _PX is a bump of the rim, no crack; over the
# same way from a free end the centreline bends into a corner.
_RADII, _PX = 1.5, 2.0

Walk = list[int]  # indices of skeleton pixels, each a neighbour of the one before


class Measurement(NamedTuple):
    """Measurements of one crack, and the centreline that they were taken along."""

    length_px: float  # of all branches of all pieces together, from rim to rim
    mean_width_px: float  # area by length
    max_width_px: float  # at the widest place that is no junction
    orientation_deg: float  # of the main axis, in [0, 180), anticlockwise as seen; 0 is level
    lines: tuple[np.ndarray, ...]  # branches: (N, 2) x, y in px from the photo's top left corner


def measure(instance: CrackInstance) -> Measurement:
    """Measure a crack of one or more pieces: lengths to 5 % (steps of 20 px: 7), widths to 1 px.

    Cracks less than five times as long as wide may come out a fifth too short, and 5 px too wide;
    the widest place, where it is the photo's rim, up to a sixth too narrow.
    """
    mask = instance.mask
    branches, at_junction = zip(*centreline(mask), strict=True)
    near = np.concatenate(at_junction)
    length = float(sum(way_along(branch)[-1] for branch in branches))
    moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
    # Image rows run downwards, angles anticlockwise: hence the minus.
    twice = math.atan2(-2.0 * moments["mu11"], moments["mu20"] - moments["mu02"])
    mean_width = np.count_nonzero(mask) / length
    widest = np.concatenate(branches)[~near | near.all(), 2].max()
    lines = tuple(branch[:, 1::-1] + np.add(instance.box[:2], 0.5) for branch in branches)
    max_width = max(2.0 * float(widest), mean_width)  # that of thin lines is known to 1/2 px only
    return Measurement(length, mean_width, max_width, math.degrees(0.5 * twice) % 180.0, lines)


def centreline(mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Thin a mask, bool (H, W) with a pixel set; prune, smooth, extend free ends to the rim.

    Yields each branch between free ends and junctions, (N, 3) row, column and half the width in px,
    from the mask's first pixel centre; and at which of its points a junction widens it.
    """
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    skeletons = []
    for number, (x, y, width, height, _) in enumerate(boxes[1:].tolist(), start=1):
        # Piece by piece: the box of all may be far larger.
        framed = np.pad(labels[y : y + height, x : x + width] == number, 1).view(np.uint8)
        away = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        pixels = np.argwhere(skeletonize(framed, method="lee"))  # which keeps lines 2 px wide whole
        # Half a pixel too far, and a line of even width has its middle half a pixel away.
        radii = away[tuple(pixels.T)] - 0.25
        skeletons.append(np.column_stack([pixels + np.array([y - 1.0, x - 1.0]), radii]))
    points, paths, degree = _prune(np.concatenate(skeletons))
    for path in paths:
        branch = points[path]
        if len(path) > 2:
            # Straight between corners (Douglas and Peucker 1973).
            pixels = branch[:, None, :2].astype(np.float32)
            corners = cv2.approxPolyDP(pixels, _TOLERANCE, closed=False)
            kept = np.flatnonzero(np.isin(pixels @ (1, 1j), corners @ (1, 1j)))
            for axis in (0, 1):
                branch[:, axis] = np.interp(np.arange(len(path)), kept, branch[kept, axis])
        first, last = degree[path[0]], degree[path[-1]]
        for end in (first, last):
            branch = (_to_rim(branch, mask) if end < 2 else branch)[::-1]
        way, reach = way_along(branch), 2.0 * branch[[0, -1], 2]
        near = (way < reach[0]) & (first > 2)
        yield branch, near | ((way[-1] - way < reach[1]) & (last > 2))


def _prune(points: np.ndarray) -> tuple[np.ndarray, list[Walk], np.ndarray]:
    """A skeleton without side branches that are bumps of the rim, and its `_trace`."""
    paths, degree = _trace(points[:, :2])
    bumps: Walk = []
    for path in paths:
        tip, root = sorted((path[0], path[-1]), key=lambda end: degree[end])
        is_side = degree[tip] == 1 and degree[root] > 2
        if is_side and way_along(points[path])[-1] < _RADII * points[root, 2] + _PX:
            bumps += [pixel for pixel in path if pixel != root]
    return _prune(np.delete(points, bumps, axis=0)) if bumps else (points, paths, degree)


def _trace(pixels: np.ndarray) -> tuple[list[Walk], np.ndarray]:
    """Single pixels, paths from node to node, and rings; the number of neighbours of each, (N,)."""
    # Neighbours, each both ways; a diagonal only where no other way leads round (m-adjacency,
    # Gonzalez & Woods): that leaves no small triangles at bends and junctions.
    pairs = KDTree(pixels).query_pairs(1.5, output_type="ndarray")
    (top, left), (bottom, right) = pixels[pairs].transpose(1, 2, 0)
    stride = int(pixels[:, 1].max()) + 1
    corners = np.array([top * stride + right, bottom * stride + left])
    is_crooked = np.isin(corners, pixels[:, 0] * stride + pixels[:, 1]).any(axis=0)
    pairs = pairs[(top == bottom) | (left == right) | ~is_crooked]
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    here, there = pairs.T
    degree = np.bincount(here, minlength=len(pixels))
    # A path goes on to the sum of a pixel's two neighbours less the one that it comes from.
    total = np.bincount(here, there, len(pixels)).astype(int).tolist()
    paths = [[pixel] for pixel in np.flatnonzero(degree == 0).tolist()]
    walked: set[tuple[int, int]] = set()
    for start, first in pairs[np.argsort(degree[here] == 2, kind="stable")].tolist():
        if (start, first) in walked:
            continue
        path = [start, first]
        while degree[path[-1]] == 2 and path[-1] != start:
            path.append(total[path[-1]] - path[-2])
        walked.update(pairwise(path), pairwise(path[::-1]))
        paths.append(path)
    return paths, degree


def _to_rim(line: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replace a branch's bent first bit by a straight one to the rim of the mask.

    One too short to have a direction apart from that bit goes on by its half width. A thin line's
    way ahead may lie beside its pixels: it goes as far as they do.
    """
    way, radius = way_along(line), line[:, 2]
    base = int(np.argmax(way >= _RADII * radius + _PX))
    back = int(np.searchsorted(way, way[base] + max(5.0, radius[base])))
    short = base == 0 or back == len(way)
    base, back = (0, -1) if short else (base, back)
    start = line[base, :2]
    direction = start - line[back, :2] if len(line) > 1 else np.array([0.0, 1.0])
    direction = direction / np.linalg.norm(direction)
    ahead = np.arange(0.0, 4.0 * radius.max() + _PX, 0.25)
    places = start[:, None] + ahead * direction[:, None]
    inside = map_coordinates(mask, places, order=0, mode="grid-constant")
    rim = max(ahead[np.argmin(inside) - 1], (line[0, :2] - start) @ direction)
    tip = start + (radius[0] if short else rim) * direction
    return np.vstack([[*tip, radius[base]], line[base:]])


def way_along(line: np.ndarray) -> np.ndarray:
    """Distance along a line, (N, 2) or more columns, from its first point, (N,) px."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line[:, :2], axis=0), axis=1))])
