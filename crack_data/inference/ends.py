"""How far a crack reaches beyond, or short of, the free ends of its skeleton."""

from __future__ import annotations

import math

import numpy as np

from .skeleton import Centreline

# Thinning bends a skeleton's last px into a corner of the mask. The way is trusted up to this far
# from the tip: _RADII x half the width there, plus _PX.
_RADII = 1.5
_PX = 2.0
_STEP = 0.25


def end_correction(line: Centreline, mask: np.ndarray) -> float:
    """What the free ends add to the length of the skeleton's edges, px; may be negative.

    From a point somewhat before each tip on, the crack is taken to go straight on, to the rim.

    Args:
        line: centreline of the mask.
        mask: bool (H, W).
    """
    ends = np.flatnonzero(line.degree == 1)
    single = 2.0 * line.radius[line.degree == 0].sum()
    return float(single + sum(_correct(line, mask, int(end)) for end in ends))


def _correct(line: Centreline, mask: np.ndarray, end: int) -> float:
    path, way = _walk(line, end)
    trusted = np.flatnonzero(way >= _RADII * line.radius[path] + _PX)
    if not len(trusted):
        return float(line.radius[end])
    base = int(trusted[0])
    back = int(np.searchsorted(way, way[base] + max(5.0, line.radius[path[base]])))
    if back >= len(path):
        return float(line.radius[end])
    start = line.points[path[base]]
    direction = start - line.points[path[back]]
    reach = _reach(mask, start, direction / np.linalg.norm(direction))
    return reach - float(way[base])


def _walk(line: Centreline, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels from a tip inwards, to the next junction at most, and their way from the tip, px."""
    limit = 2 * (_RADII + 2.0) * float(line.radius.max()) + 20.0
    path, way, before = [end], [0.0], -1
    around = line.graph.neighbours(end)
    while way[-1] < limit and (len(path) == 1 or len(around) == 2):
        after = around[0] if around[0] != before else around[-1]
        if after == end:
            break
        before = path[-1]
        path.append(after)
        way.append(way[-1] + math.dist(line.places[before], line.places[after]))
        around = line.graph.neighbours(after)
    return np.array(path), np.array(way)


def _reach(mask: np.ndarray, start: np.ndarray, direction: np.ndarray) -> float:
    """Distance from a point to where the mask ends in a direction, px."""
    height, width = mask.shape
    (row, column), (down, right) = start.tolist(), direction.tolist()
    distance = _STEP
    while True:
        y, x = row + distance * down, column + distance * right
        inside = -0.5 <= y < height - 0.5 and -0.5 <= x < width - 0.5
        if not inside or not mask[round(y), round(x)]:
            return distance - _STEP
        distance += _STEP
