"""Components → polygons that decode to the very same pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .components import ByteMask

# Turns at a lattice corner, left first: of two ways on, the left one keeps diagonal pixels in
# separate rings, whose even-odd union is the same.
_LEFT_FIRST = (1, 0, 3)
# Directions east, south, west, north as (dx, dy).
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def polygon_of(component: ByteMask, x: int, y: int) -> list[int]:
    """Outline a component as one polygon, x0, y0, x1, y1, ... in px.

    It runs along pixel edges. Holes and parts that touch by a corner only are further rings,
    joined by seams that are walked there and back, which the even-odd rule ignores: COCO's
    rasterization gives the component back bit for bit.

    Args:
        component: the component cut out by its box, HxW of 0 and 1.
        x, y: the corner of that box in the photo, px.
    """
    rings = list(_rings(component))
    start = rings[0][0]
    points = []
    for ring in rings:
        points += [*ring, ring[0]]
        if ring is not rings[0]:
            points.append(start)
    return [value for px, py in points for value in (px + x, py + y)]


def _rings(component: ByteMask) -> Iterator[list[tuple[int, int]]]:
    """Closed chains of lattice corners, crack on their right, straight runs in one step."""
    edges = _edges(component)
    while edges:
        start = min(edges, key=lambda corner: (corner[1], corner[0]))
        corner, direction = start, min(edges[start])
        ring: list[tuple[int, int]] = []
        previous = -1
        while corner in edges and direction in edges[corner]:
            edges[corner].discard(direction)
            if not edges[corner]:
                del edges[corner]
            if direction != previous:
                ring.append(corner)
            previous = direction
            corner = (corner[0] + _STEPS[direction][0], corner[1] + _STEPS[direction][1])
            ways = edges.get(corner, set())
            direction = next(
                (turn for turn in ((direction + t) % 4 for t in _LEFT_FIRST) if turn in ways), -1
            )
        yield ring


def _edges(component: ByteMask) -> dict[tuple[int, int], set[int]]:
    """From each lattice corner, the directions in which a rim with crack on its right leaves."""
    padded = np.pad(component.astype(bool), 1)
    inside = padded[1:-1, 1:-1]
    rims = (
        (inside & ~padded[:-2, 1:-1], 0, (0, 0)),  # top edge, eastward
        (inside & ~padded[1:-1, 2:], 1, (1, 0)),  # right edge, southward
        (inside & ~padded[2:, 1:-1], 2, (1, 1)),  # bottom edge, westward
        (inside & ~padded[1:-1, :-2], 3, (0, 1)),  # left edge, northward
    )
    edges: dict[tuple[int, int], set[int]] = {}
    for rim, direction, (dx, dy) in rims:
        for py, px in np.argwhere(rim).tolist():
            edges.setdefault((px + dx, py + dy), set()).add(direction)
    return edges
