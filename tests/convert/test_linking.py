"""Pieces of one crack get one number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_data.convert.linking import cluster_pieces, link_pieces


def _link(mask: np.ndarray, gap: float) -> list[int]:
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    return link_pieces(labels, count - 1, gap).tolist()


def _dashes(gap: int) -> np.ndarray:
    """A line of three dashes, ``gap`` px of background between them, and a fourth far off."""
    mask = np.zeros((100, 200), np.uint8)
    for start in range(10, 10 + 3 * (20 + gap), 20 + gap):
        mask[10:13, start : start + 20] = 1
    mask[80:83, 10:40] = 1
    return mask


@pytest.mark.parametrize("gap", [2, 6, 12, 24])
def test_pieces_in_line_are_one_crack_up_to_the_gap(gap: int) -> None:
    assert _link(_dashes(gap), gap) == [0, 1, 1, 1, 2]
    assert _link(_dashes(gap), gap - 2) == [0, 1, 2, 3, 4]


def test_without_gap_each_piece_is_a_crack() -> None:
    assert _link(_dashes(2), 0) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("apart", [8, 14, 25])
def test_parallel_cracks_stay_apart(apart: int) -> None:
    mask = np.zeros((80, 200), np.uint8)
    mask[20:23, :] = mask[23 + apart : 26 + apart, :] = 1
    assert _link(mask, 32) == [0, 1, 2]
    mask[:30, 90:106] = 0  # the upper one interrupted beside the lower one
    assert _link(mask, 32) == [0, 1, 1, 2]


@pytest.mark.parametrize("width", [1, 3, 12, 30])
@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_pieces_of_any_width_and_direction_are_linked(width: int, angle: int) -> None:
    middle = np.array([200.0, 200.0])
    ahead = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    mask = np.zeros((400, 400), np.uint8)
    for start, end in ((-190, -12 - width / 2), (12 + width / 2, 190)):
        ends = [tuple(np.rint(middle + ahead * at).astype(int).tolist()) for at in (start, end)]
        cv2.line(mask, *ends, 1, width)
    assert _link(mask, 32) == [0, 1, 1]
    assert _link(mask, 12) == [0, 1, 2]


def test_ragged_rims_have_no_ends() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((120, 300), np.uint8)
    for x in range(300):
        mask[30 + rng.integers(3) : 40 + rng.integers(3), x] = 1
        mask[52 + rng.integers(3) : 62 + rng.integers(3), x] = 1
    assert _link(mask, 32) == [0, 1, 2]


def test_what_nearly_touches_is_one_crack() -> None:
    mask = np.zeros((60, 90), np.uint8)
    mask[20:24] = 1
    mask[28:50, 40:44] = 1  # a branch, 4 px from the trunk
    assert _link(mask, 12) == [0, 1, 1]
    assert _link(mask, 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        (40, 20, [0, 1, 2, 2]),
        (20, 40, [0, 1, 1, 2]),
        (20, 20, [0, 1, 2, 2]),  # of two as near the longer one
        (32, 31, [0, 1, 2, 2]),  # 30 px of background
        (32, 32, [0, 1, 2, 3]),
    ],
)
def test_a_fragment_is_part_of_the_nearest_crack(
    above: int, below: int, expected: list[int]
) -> None:
    mask = np.zeros((120, 200), np.uint8)
    mask[60 - above, 20:120] = mask[60, 70:90] = mask[60 + below, 20:180] = 1
    assert _link(mask, 64) == expected


@pytest.mark.parametrize(("end", "is_fragment"), [((40, 82), True), ((45, 87), False)])
def test_what_is_longer_than_60_px_is_no_fragment(end: tuple[int, int], is_fragment: bool) -> None:
    mask = np.zeros((120, 200), np.uint8)
    mask[100, 10:190] = 1
    cv2.line(mask, (40, 40), (end[0] + 40, end[1]), 1, 1)
    assert _link(mask, 64) == [0, 1, 1 if is_fragment else 2]


def test_a_fragment_between_two_equal_cracks_is_part_of_neither() -> None:
    mask = np.zeros((80, 200), np.uint8)
    mask[20, 20:120] = mask[40, 60:80] = mask[60, 20:120] = 1
    assert _link(mask, 64) == [0, 1, 2, 3]


def test_hairlines_of_wide_cracks_cost_little_memory() -> None:
    """From afar the teeth of a comb are ends of thousands of pixels."""
    mask = np.zeros((600, 900), np.uint8)
    mask[50:130] = mask[470:550] = 1
    for x in range(10, 880, 40):
        mask[130:430, x : x + 3] = mask[170:470, x + 20 : x + 23] = 1
    tracemalloc.start()
    assert _link(mask, 64) == [0, 1, 1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6  # bytes


@pytest.mark.parametrize("turn", [np.array, np.fliplr, np.flipud, np.transpose])
def test_a_dash_joins_all_of_a_fragment(turn: Callable[..., np.ndarray]) -> None:
    """Of two dashes in line, too far apart for dashes, it lies beside one."""
    mask = np.zeros((60, 90), np.uint8)
    mask[20, 5:20] = mask[20, 42:55] = mask[31, 8:16] = 1
    assert _link(np.ascontiguousarray(turn(mask)), 64) == [0, 1, 1, 1]


@pytest.mark.parametrize("seed", [166, 205, 306, 362])
@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose])
def test_a_turned_mask_of_long_cracks_is_linked_alike(
    seed: int, turn: Callable[..., np.ndarray]
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((160, 240), np.uint8)
    for _ in range(rng.integers(3, 8)):
        start, angle = rng.integers(0, (240, 160)), rng.uniform(0, 2 * np.pi)
        end = start + rng.integers(20, 140) * np.array([np.cos(angle), np.sin(angle)])
        width = int(rng.integers(1, 9))
        cv2.line(mask, start.tolist(), np.rint(end).astype(int).tolist(), 1, width)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    turned = np.ascontiguousarray(turn(labels))
    expected = link_pieces(labels, count - 1, 64)
    assert np.array_equal(link_pieces(turned, count - 1, 64), expected)


def test_a_gap_larger_than_the_mask_costs_no_memory() -> None:
    assert _link(_dashes(6), 1e9) == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(("below", "expected"), [(21, [0, 1, 1]), (22, [0, 1, 2])])
def test_fragments_alone_are_one_crack_across_20_px(below: int, expected: list[int]) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[10, 10:30] = mask[10 + below, 10:30] = 1
    assert _link(mask, 64) == expected


def test_ends_that_bend_face_each_other_from_afar() -> None:
    mask = np.zeros((120, 300), np.uint8)
    mask[60:62, 10:130] = mask[60:62, 160:290] = 1
    mask[50:60, 128:130] = mask[62:72, 160:162] = 1  # one end bends up, the other down
    assert _link(mask, 64) == [0, 1, 1]
    assert _link(mask, 24) == [0, 1, 2]


@given(
    lines=st.lists(st.tuples(*[st.integers(0, 69)] * 4, st.integers(1, 7)), min_size=2, max_size=7),
    turn=st.sampled_from([np.fliplr, np.flipud, np.transpose, np.rot90]),
)
@settings(max_examples=80, deadline=None)
def test_a_turned_mask_is_linked_alike(
    lines: list[tuple[int, ...]], turn: Callable[..., np.ndarray]
) -> None:
    mask = np.zeros((70, 70), np.uint8)
    for x0, y0, x1, y1, width in lines:
        cv2.line(mask, (x0, y0), (x1, y1), 1, width)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    turned = np.ascontiguousarray(turn(labels))
    expected = link_pieces(labels, count - 1, 20)
    assert np.array_equal(link_pieces(turned, count - 1, 20), expected)
    # Never more than what lies within the gap.
    near = cluster_pieces(labels, count - 1, 20)
    assert all(len(set(near[expected == crack])) == 1 for crack in set(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_label_maps_of_any_integers(dtype: type) -> None:
    count, labels = cv2.connectedComponents(_dashes(6), connectivity=8)
    assert link_pieces(labels.astype(dtype), count - 1, 12).tolist() == [0, 1, 1, 1, 2]


def test_no_piece_and_one_piece() -> None:
    assert _link(np.zeros((5, 6), np.uint8), 12) == [0]
    assert _link(np.ones((5, 6), np.uint8), 12) == [0, 1]
    assert link_pieces(np.zeros((0, 0), np.int32), 0, 12).tolist() == [0]
