"""Cracks drawn from their centreline: every pixel within half the width of it, ends cut flat."""

from __future__ import annotations

import itertools
import math

import numpy as np

Points = list[tuple[float, float]]


def draw_crack(points: Points, width: float, size: tuple[int, int]) -> np.ndarray:
    """Bool (height, width) mask of a crack along a polyline of (x, y) points."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    mask = np.zeros(size, dtype=bool)
    for number, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(points)):
        length = math.hypot(x1 - x0, y1 - y0)
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length
        across = np.abs((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        mask |= (along >= 0) & (along <= length) & (across <= width / 2)
        if number:
            mask |= np.hypot(x - x0, y - y0) <= width / 2
    # A joint near an end rounds it off beyond the cut.
    for (x0, y0), (x1, y1) in ((points[0], points[1]), (points[-1], points[-2])):
        beyond = (x - x0) * (x1 - x0) + (y - y0) * (y1 - y0) < 0
        mask &= ~(beyond & (np.hypot(x - x0, y - y0) <= width))
    return mask


def length_of(points: Points) -> float:
    """Length of a polyline."""
    return sum(math.dist(a, b) for a, b in itertools.pairwise(points))


def line(centre: tuple[float, float], length: float, degrees: float) -> Points:
    """A straight line; degrees anticlockwise as seen."""
    dx, dy = (
        math.cos(math.radians(degrees)) * length / 2,
        -math.sin(math.radians(degrees)) * length / 2,
    )
    x, y = centre
    return [(x - dx, y - dy), (x + dx, y + dy)]


def arc(centre: tuple[float, float], radius: float, start: float, stop: float) -> Points:
    """Part of a circle, degrees clockwise as seen, in steps of 2 degrees."""
    angles = np.radians(np.arange(start, stop + 1, 2))
    x, y = centre
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def wave(start: tuple[float, float], length: float, amplitude: float, period: float) -> Points:
    """A sine wave from left to right."""
    x, y = start
    return [
        (x + t, y + amplitude * math.sin(2 * math.pi * t / period))
        for t in np.arange(0, length + 1, 2)
    ]
