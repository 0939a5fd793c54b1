"""Bridges connect what is near, and only that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_data.convert.bridging import bridge_gaps
from crack_data.convert.components import label_components


def _two_pieces(dx: int, dy: int) -> np.ndarray:
    """Two lines of 6 px whose ends have ``dx`` columns and ``dy`` rows between their centres."""
    mask = np.zeros((60, 60), np.uint8)
    mask[20, 4:10] = 1
    mask[20 + dy, 9 + dx : 15 + dx] = 1
    return mask


@pytest.mark.parametrize("connectivity", [4, 8])
@given(dx=st.integers(0, 12), dy=st.integers(0, 12))
@settings(max_examples=80, deadline=None)
def test_pieces_are_connected_exactly_within_the_gap(connectivity: int, dx: int, dy: int) -> None:
    mask = _two_pieces(dx, dy)
    before = label_components(mask, connectivity)[0]
    bridged = bridge_gaps(mask, 6, connectivity)
    assert (bridged >= mask).all()
    if before == 1 or np.hypot(dx, dy) > 7:
        assert np.array_equal(bridged, mask)
    else:
        assert label_components(bridged, connectivity)[0] == 1
        assert bridged.sum() - mask.sum() <= 3 * 7


def test_a_straight_gap_gets_a_straight_bridge() -> None:
    mask = _two_pieces(4, 0)
    added = bridge_gaps(mask, 3, 8) - mask
    assert added[20, 10:13].all()
    added[19:22, 10:13] = 0
    assert not added.any()
    assert np.array_equal(bridge_gaps(mask, 2, 8), mask)


def test_no_component_and_one_component_stay() -> None:
    for mask in (np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)):
        assert np.array_equal(bridge_gaps(mask, 3, 8), mask)
