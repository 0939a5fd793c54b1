"""Centreline, length, width and orientation of a crack, by thinning and distance transform."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from .prediction import CrackInstance

# Smoothing along the line, px: takes the pixel steps out of a slanted line (to 8 % of it).
_SIGMA = 2.25
# A side branch shorter than _RADII x half the width + _PX is a bump of the rim, no crack; over the
# same way from a free end the centreline bends into a corner.
_RADII, _PX = 1.5, 2.0

Path = list[int]  # indices of skeleton pixels, each a neighbour of the one before


class Measurement(NamedTuple):
    """Measurements of one crack, and the centreline that they were taken along."""

    length_px: float  # of all branches of all pieces together, from rim to rim
    mean_width_px: float  # area by length
    max_width_px: float  # at the widest place that is no junction
    orientation_deg: float  # of the main axis, in [0, 180), anticlockwise as seen; 0 is level
    lines: tuple[np.ndarray, ...]  # branches: (N, 2) x, y in px from the photo's top left corner


def measure(instance: CrackInstance) -> Measurement:
    """Measure one crack, which may have several pieces: lengths to 5 %, widths to 1 px."""
    mask = instance.mask
    branches, radii, near = centreline(mask)
    length = float(sum(way_along(branch)[-1] for branch in branches))
    moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
    # Image rows run downwards, angles anticlockwise: hence the minus.
    twice = math.atan2(-2.0 * moments["mu11"], moments["mu20"] - moments["mu02"])
    orientation = math.degrees(0.5 * twice) % 180.0
    mean_width = np.count_nonzero(mask) / length
    widest = radii.max() if near.all() else radii[~near].max()
    origin = np.array(instance.box[:2]) + 0.5
    lines = tuple(branch[:, ::-1] + origin for branch in branches)
    # Of lines 2 px wide, half the width is known to 1/4 px only.
    max_width = max(2.0 * float(widest), mean_width)
    return Measurement(length, mean_width, max_width, orientation, lines)


def centreline(mask: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Thin a mask, bool (H, W) with a pixel set; prune, smooth, extend free ends to the rim.

    Returns the branches between free ends and junctions, (N, 2) row, column in px within the mask,
    whole at pixel centres; and of all their points half the width, px, and whether a junction is
    near, where a circle is wider than the cracks that meet.
    """
    framed = np.pad(mask, 1).view(np.uint8)
    away = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    pixels = np.argwhere(skeletonize(framed, method="lee"))  # which keeps lines 2 px wide whole
    while True:
        points, paths = pixels - 1.0, _trace(pixels)
        # To the next pixel's centre: half a pixel too far, and a line of even width has its middle
        # half a pixel away.
        radii = away[tuple(pixels.T)] - 0.25
        degrees = Counter(end for path in paths for end in (path[0], path[-1]))
        bumps = _find_bumps(paths, degrees, points, radii)
        if not bumps:
            break
        pixels = np.delete(pixels, bumps, axis=0)
    branches, radius_at, is_near = [], [], []
    for path in paths:
        line, radius = points[path], radii[path]
        if len(path) > 2:
            pad = min(len(path) - 1, round(4 * _SIGMA))
            # Odd reflection leaves the end points where they are.
            around = np.pad(line, ((pad, pad), (0, 0)), mode="reflect", reflect_type="odd")
            line = gaussian_filter1d(around, _SIGMA, axis=0)[pad:-pad]
        first, last = (degrees[path[0]], degrees[path[-1]]) if len(path) > 1 else (0, 0)
        for degree in (first, last):
            if degree < 2:
                line, radius = _to_rim(line, radius, mask)
            line, radius = line[::-1], radius[::-1]
        way = way_along(line)
        near = (way < 2.0 * radius[0]) & (first > 2)
        near |= (way[-1] - way < 2.0 * radius[-1]) & (last > 2)
        branches.append(line)
        radius_at.append(radius)
        is_near.append(near)
    return branches, np.concatenate(radius_at), np.concatenate(is_near)


def _trace(pixels: np.ndarray) -> list[Path]:
    """Single pixels, paths from node to node (pixels without two neighbours), and rings."""
    pairs = _neighbours(pixels)
    here, there = pairs.T
    degree = np.bincount(here, minlength=len(pixels))
    is_node = (degree != 2).tolist()
    # A path goes on to the sum of a pixel's two neighbours less the one that it comes from.
    total = np.bincount(here, there, len(pixels)).astype(int).tolist()
    paths = [[pixel] for pixel in np.flatnonzero(degree == 0).tolist()]
    walked: set[tuple[int, int]] = set()
    for start, first in pairs[np.argsort(degree[here] == 2, kind="stable")].tolist():
        if (start, first) in walked:
            continue
        path = [start, first]
        while not is_node[path[-1]] and path[-1] != start:
            path.append(total[path[-1]] - path[-2])
        walked.update(pairwise(path), pairwise(path[::-1]))
        paths.append(path)
    return paths


def _neighbours(pixels: np.ndarray) -> np.ndarray:
    """Pairs of neighbours, (P, 2), each both ways; a diagonal only where no other way leads round.

    Gonzalez & Woods call it m-adjacency; it leaves no small triangles at bends and junctions.
    """
    pairs = KDTree(pixels).query_pairs(1.5, output_type="ndarray")
    (top, left), (bottom, right) = pixels[pairs].transpose(1, 2, 0)
    stride = int(pixels[:, 1].max()) + 1
    corners = np.array([top * stride + right, bottom * stride + left])
    is_crooked = np.isin(corners, pixels[:, 0] * stride + pixels[:, 1]).any(axis=0)
    pairs = pairs[(top == bottom) | (left == right) | ~is_crooked]
    return np.concatenate([pairs, pairs[:, ::-1]])


def _find_bumps(
    paths: list[Path], degrees: Counter[int], points: np.ndarray, radii: np.ndarray
) -> list[int]:
    """The pixels of side branches that are bumps of the rim, but for those that they start from.

    ``degrees`` says how many paths end at each pixel; a ring ends there twice.
    """
    bumps = []
    for path in paths:
        tip, root = sorted((path[0], path[-1]), key=lambda end: degrees[end])
        is_side = degrees[tip] == 1 and degrees[root] > 2
        if is_side and way_along(points[path])[-1] < _RADII * radii[root] + _PX:
            bumps += [pixel for pixel in path if pixel != root]
    return bumps


def _to_rim(line: np.ndarray, radius: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Replace a line's bent first bit by a straight one to the rim of the mask.

    A line too short to have a direction apart from that bit goes on by its half width.
    """
    way = way_along(line)
    base = int(np.argmax(way >= _RADII * radius + _PX))
    back = int(np.searchsorted(way, way[base] + max(5.0, radius[base])))
    short = base == 0 or back == len(way)
    base, back = (0, -1) if short else (base, back)
    direction = line[base] - line[back] if len(line) > 1 else np.array([0.0, 1.0])
    direction = direction / np.linalg.norm(direction)
    ahead = np.arange(0.0, 4.0 * radius.max() + _PX, 0.25)
    places = (line[base] + ahead[:, None] * direction).T
    inside = map_coordinates(mask, places, order=0, mode="grid-constant")
    tip = line[base] + (radius[0] if short else ahead[np.argmin(inside) - 1]) * direction
    return np.vstack([tip, line[base:]]), np.concatenate([radius[[base]], radius[base:]])


def way_along(line: np.ndarray) -> np.ndarray:
    """Distance along a line from its first point, (N,) px."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
