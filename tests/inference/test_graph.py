from __future__ import annotations

import numpy as np
import pytest

from crack_data.inference.graph import PixelGraph, prune


def trunk_and_branch(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and edges: 41 px from left to right, and a branch upwards from the middle."""
    trunk = [(50.0, float(x)) for x in range(41)]
    branch = [(50.0 - step, 20.0) for step in range(1, length + 1)]
    along = [(x, x + 1) for x in range(40)]
    up = [(20, 41), *((40 + step, 41 + step) for step in range(1, length))]
    return np.array(trunk + branch), np.array(along + up)


# A branch as long as 1.5 x half the width, 2 px here, + 2 px is kept.
@pytest.mark.parametrize(("length", "kept"), [(1, 41), (4, 41), (5, 46), (9, 50)])
def test_short_side_branches_go(length: int, kept: int) -> None:
    points, edges = trunk_and_branch(length)
    left, radius, graph = prune(points, np.full(len(points), 2.0), edges)
    assert len(left) == len(radius) == len(graph.degree) == kept
    assert (graph.degree > 2).any() == (kept > 41)


def test_a_short_crack_without_branches_stays() -> None:
    points = np.array([[0.0, 0.0], [0.0, 1.0]])
    left, _, graph = prune(points, np.full(2, 5.0), np.array([[0, 1]]))
    assert len(left) == 2
    assert [graph.neighbours(0), graph.neighbours(1)] == [[1], [0]]


def test_one_pixel_and_neighbours_in_a_row() -> None:
    alone = PixelGraph(np.empty((0, 2), dtype=int), 1)
    assert (alone.neighbours(0), alone.degree.tolist()) == ([], [0])
    row = PixelGraph(np.array([[0, 1], [1, 2]]), 3)
    before, after = row.along(np.array([1]))
    assert sorted([*before, *after]) == [0, 2]
