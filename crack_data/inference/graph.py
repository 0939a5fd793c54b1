"""Pixels of a skeleton and their neighbours, and which of its side branches are none."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

# A side branch shorter than _SPUR_RADII x the half width where it leaves, plus _SPUR_PX, is a
# bump of the rim, not a crack.
_SPUR_RADII = 1.5
_SPUR_PX = 2.0


class PixelGraph:
    """Who neighbours whom among N pixels."""

    def __init__(self, edges: np.ndarray, count: int) -> None:
        """Sort the edges by pixel.

        Args:
            edges: (M, 2) pairs of neighbours, each once.
            count: number of pixels.
        """
        self.edges = edges
        ends = edges.T.reshape(-1)
        self.degree = np.bincount(ends, minlength=count)
        self.first = np.concatenate([[0], np.cumsum(self.degree)])
        self.others = edges[:, ::-1].T.reshape(-1)[np.argsort(ends, kind="stable")]

    @cached_property
    def _lists(self) -> tuple[list[int], list[int]]:
        """What the arrays hold, for single look-ups, which lists answer faster."""
        return self.others.tolist(), self.first.tolist()

    def neighbours(self, pixel: int) -> list[int]:
        """Neighbours of one pixel."""
        others, first = self._lists
        return others[first[pixel] : first[pixel + 1]]

    def along(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two neighbours of pixels that have two, (len(place),) each."""
        start = self.first[place]
        return self.others[start], self.others[start + 1]


def prune(
    points: np.ndarray, radius: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, PixelGraph]:
    """Drop the side branches that are too short, then those that this leaves, until none is left.

    Args:
        points: (N, 2) row, column, px.
        radius: (N,) half the width there, px.
        edges: (M, 2) neighbours.

    Returns:
        points, radius and graph of the pixels that stay.
    """
    while True:
        graph = PixelGraph(edges, len(points))
        spurs = _spurs(points, radius, graph)
        if not spurs:
            return points, radius, graph
        keep = np.ones(len(points), dtype=bool)
        keep[spurs] = False
        number = np.cumsum(keep) - 1
        points, radius = points[keep], radius[keep]
        edges = number[edges[keep[edges].all(axis=1)]]


def _spurs(points: np.ndarray, radius: np.ndarray, graph: PixelGraph) -> list[int]:
    """The pixels of side branches that end freely and are too short."""
    if not (graph.degree > 2).any():
        return []
    longest = _SPUR_RADII * float(radius.max()) + _SPUR_PX
    places, degree = points.tolist(), graph.degree.tolist()
    spurs: list[int] = []
    for end in np.flatnonzero(graph.degree == 1).tolist():
        path, here = [end], graph.neighbours(end)[0]
        length = math.dist(places[end], places[here])
        while degree[here] == 2 and length < longest:
            onward = graph.neighbours(here)
            after = onward[1] if onward[0] == path[-1] else onward[0]
            path.append(here)
            length += math.dist(places[here], places[after])
            here = after
        if degree[here] > 2 and length < _SPUR_RADII * radius[here] + _SPUR_PX:
            spurs += path
    return spurs
