"""Cleaning treats all directions alike, keeps thin cracks, and drops what is no crack."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_data.convert.cleaning import (
    PRESETS,
    CleaningOptions,
    fill_holes,
    find_cracks,
)
from crack_data.errors import CrackError
from tests.convert.greys import greys

EVERYTHING = CleaningOptions(
    opening=3, closing=4, fill_holes=5, min_area=6, link_gap=9, connectivity=4
)
OPTIONS = {
    **PRESETS,
    "everything": EVERYTHING,
    "otsu": replace(EVERYTHING, threshold="otsu", opening=0, closing=2, connectivity=8),
    "small classic": replace(PRESETS["classic"], min_area=8),
    "close": CleaningOptions(min_area=4, cluster_gap=3, link_gap=2),
}
TURNS = {
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "rotated": lambda grey: np.rot90(grey, 2),
    "transposed": np.transpose,
}


@pytest.mark.parametrize("name", OPTIONS)
@given(grey=greys(), turn=st.sampled_from(sorted(TURNS)))
@settings(max_examples=60, deadline=None)
def test_cleaning_a_turned_mask_gives_the_turned_instances(
    name: str, grey: np.ndarray, turn: str
) -> None:
    options, turned = OPTIONS[name], np.ascontiguousarray(TURNS[turn](grey))
    cleaned, instances = _cleaned(grey, options), _instances(grey, options)
    assert np.array_equal(_cleaned(turned, options), TURNS[turn](cleaned))
    expected = sorted(TURNS[turn](mask).tobytes() for mask in instances)
    assert sorted(mask.tobytes() for mask in _instances(turned, options)) == expected
    labels = find_cracks(grey, options)
    assert labels.dtype == np.int32
    assert labels.min() >= 0
    assert all(mask.any() for mask in instances)


def _cleaned(grey: np.ndarray, options: CleaningOptions) -> np.ndarray:
    return (find_cracks(grey, options) > 0).view(np.uint8)


def _instances(grey: np.ndarray, options: CleaningOptions) -> list[np.ndarray]:
    labels = find_cracks(grey, options)
    return [(labels == number).astype(np.uint8) for number in range(1, labels.max() + 1)]


@pytest.mark.parametrize("thickness", [1, 2])
def test_thin_keeps_a_thin_crack_that_classic_erases(thickness: int) -> None:
    grey = np.zeros((100, 100), np.uint8)
    cv2.line(grey, (0, 10), (99, 80), 255, thickness)
    assert np.array_equal(_cleaned(grey, PRESETS["thin"]), grey // 255)
    if thickness == 1:
        assert not _cleaned(grey, PRESETS["classic"]).any()


def test_classic_opens_and_closes_as_the_definition_says() -> None:
    # An opening is the union of all 2x2 squares that fit; a closing is its dual.
    rng = np.random.default_rng(0)
    mask = (rng.random((30, 40)) < 0.6).astype(np.uint8)
    opened = _union_of_squares(mask)
    closed = 1 - _union_of_squares(np.pad(1 - opened, 2, constant_values=1))[2:-2, 2:-2]
    options = replace(PRESETS["classic"], min_area=0)
    # Compared away from the rim, where the mask counts as continuing.
    ours = _cleaned(mask * np.uint8(255), options)
    assert np.array_equal(ours[2:-2, 2:-2], closed[2:-2, 2:-2])


def _union_of_squares(mask: np.ndarray) -> np.ndarray:
    fits = mask[1:, 1:] & mask[1:, :-1] & mask[:-1, 1:] & mask[:-1, :-1]
    union = np.zeros_like(mask)
    for dy in (0, 1):
        for dx in (0, 1):
            union[dy : union.shape[0] - 1 + dy, dx : union.shape[1] - 1 + dx] |= fits
    return union


def test_a_broken_thin_crack_stays_and_is_one_instance() -> None:
    grey = np.zeros((60, 120), np.uint8)
    for x in range(5, 115, 6):  # dashes of 3 px, 3 px apart
        grey[30, x : x + 3] = 255
    cleaned = _cleaned(grey, PRESETS["thin"])
    assert np.array_equal(cleaned, grey // 255)
    assert find_cracks(grey, PRESETS["thin"]).max() == 1


def test_a_crack_in_two_pieces_is_one_instance_but_for_classic() -> None:
    grey = np.zeros((60, 220), np.uint8)
    grey[30:34, 10:90] = grey[30:34, 110:200] = 255  # 20 px apart
    assert find_cracks(grey, PRESETS["thin"]).max() == 1
    assert find_cracks(grey, CleaningOptions(link_gap=10)).max() == 2
    assert find_cracks(grey, PRESETS["classic"]).max() == 2


def test_specks_go_alone_and_beside_a_thick_crack() -> None:
    grey = np.zeros((120, 120), np.uint8)
    grey[50:56] = 255
    crack = grey // 255
    grey[60, 10:13] = grey[62, 30] = grey[100, 100] = 255
    grey[20:23, 20:23] = 255
    assert np.array_equal(_cleaned(grey, PRESETS["thin"]), crack)


@pytest.mark.parametrize(
    ("grey", "expected"),
    [
        (np.full((1, 1), 255, np.uint8), np.zeros((1, 1), np.uint8)),  # one pixel: a speck
        (np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)),  # black: no crack
        (np.full((9, 9), 255, np.uint8), np.ones((9, 9), np.uint8)),  # white: all crack
    ],
)
def test_edge_cases(grey: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(_cleaned(grey, PRESETS["thin"]), expected)


@pytest.mark.parametrize(
    ("background", "crack"),
    [(0, 255), (0, 1), (0, 3), (0, 128), (30, 220), (0, 100), (128, 255)],
)
def test_auto_finds_cracks_of_any_level(background: int, crack: int) -> None:
    grey = np.full((50, 60), background, np.uint8)
    grey[20:24] = crack
    expected = np.zeros((50, 60), np.uint8)
    expected[20:24] = 1
    assert np.array_equal(_cleaned(grey, PRESETS["thin"]), expected)


def test_threshold_does_what_it_says() -> None:
    grey = np.zeros((20, 30), np.uint8)
    grey[5:9], grey[12:16] = 100, 200
    rows = _cleaned(grey, CleaningOptions(threshold=150)).any(axis=1)
    assert np.flatnonzero(rows).tolist() == [12, 13, 14, 15]
    otsu = _cleaned(grey, CleaningOptions(threshold="otsu"))
    assert np.array_equal(otsu, (grey > 0).astype(np.uint8))


def test_small_holes_are_filled_large_and_open_ones_stay() -> None:
    mask = np.ones((20, 20), np.uint8)
    mask[4:6, 4:6] = 0  # 4 px
    mask[10:14, 10:14] = 0  # 16 px
    mask[0, 3] = 0  # at the rim: not enclosed
    filled = fill_holes(mask, 4, 8)
    assert filled[4:6, 4:6].all()
    assert not filled[10:14, 10:14].any()
    assert not filled[0, 3]


def test_a_hole_that_opens_through_a_diagonal_depends_on_connectivity() -> None:
    mask = np.zeros((7, 7), np.uint8)
    mask[2:5, 2:5] = 1
    mask[3, 3] = mask[2, 2] = 0
    assert fill_holes(mask, 1, 8)[3, 3] == 1
    assert fill_holes(mask, 1, 4)[3, 3] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 300},
        {"threshold": "best"},
        {"connectivity": 6},
        {"min_area": -1},
        {"opening": 256},
    ],
)
def test_options_out_of_range_are_refused(changes: dict) -> None:
    with pytest.raises(CrackError, match=next(iter(changes))):
        CleaningOptions(**changes)
