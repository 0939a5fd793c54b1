from __future__ import annotations

import numpy as np
import pytest

from crack_data.inference.measuring import Measurement, measure
from crack_data.inference.prediction import CrackInstance

from .drawn import Points, arc, draw_crack, length_of, line, wave


def measure_mask(mask: np.ndarray) -> Measurement:
    return measure(CrackInstance.from_mask(1.0, mask))


def check(mask: np.ndarray, length: float, width: float) -> None:
    got = measure_mask(mask)
    assert got.length_px == pytest.approx(length, rel=0.05)
    assert got.mean_width_px == pytest.approx(width, abs=1.0)
    assert got.max_width_px == pytest.approx(width, abs=1.0)


@pytest.mark.parametrize("width", [1.5, 2, 3, 5, 15])
@pytest.mark.parametrize("degrees", [0, 7, 30, 45, 90, 101, 170])
def test_straight(width: float, degrees: float) -> None:
    points = line((120.31, 120.17), 180, degrees)
    mask = draw_crack(points, width, (240, 240))
    check(mask, length_of(points), width)
    turned = abs(measure_mask(mask).orientation_deg - degrees)
    assert min(turned, 180 - turned) < 2


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_the_widest_place_is_no_narrower_than_the_mean(width: int) -> None:
    mask = np.zeros((40, 200), dtype=bool)
    mask[20 : 20 + width, 10:190] = True
    got = measure_mask(mask)
    assert got.max_width_px >= got.mean_width_px == pytest.approx(width, abs=0.1)


@pytest.mark.parametrize("width", [2, 5, 9])
@pytest.mark.parametrize(
    "points",
    [
        arc((150.2, 150.3), 100, 0, 270),
        arc((150.2, 150.3), 30, 10, 190),
        wave((20.3, 150.2), 260, 30, 120),
        [(20.2, 30.3), (90.1, 40.2), (120.4, 130.3), (200.2, 150.1), (280.3, 280.2)],
    ],
    ids=["large arc", "small arc", "wave", "polyline"],
)
def test_curved(points: Points, width: float) -> None:
    check(draw_crack(points, width, (300, 300)), length_of(points), width)


@pytest.mark.parametrize("width", [2, 3, 5])
def test_steps_along_joints(width: float) -> None:
    points = [(20.2 + 20 * ((i + 1) // 2), 20.3 + 20 * (i // 2)) for i in range(25)]
    got = measure_mask(draw_crack(points, width, (300, 300)))
    assert got.length_px == pytest.approx(length_of(points), rel=0.07)


@pytest.mark.parametrize("width", [2, 5, 9])
def test_branches_count_together(width: float) -> None:
    trunk = [(20.2, 150.3), (280.2, 150.3)]
    branch = [(150.2, 150.3), (230.4, 40.3)]
    mask = draw_crack(trunk, width, (300, 300)) | draw_crack(branch, width, (300, 300))
    # The branch's length is counted from the trunk's centreline.
    check(mask, length_of(trunk) + length_of(branch), width)


@pytest.mark.parametrize("width", [3, 7])
def test_a_crossing_is_no_wide_place(width: float) -> None:
    lines = [line((150.2, 150.3), 240, degrees) for degrees in (20, 110)]
    mask = draw_crack(lines[0], width, (300, 300)) | draw_crack(lines[1], width, (300, 300))
    check(mask, 480, width)


def test_closed_ring() -> None:
    points = arc((150.2, 150.3), 80, 0, 360)
    check(draw_crack(points, 4, (300, 300)), length_of(points), 4)


def test_parts_add_up() -> None:
    mask = draw_crack([(20.2, 50.3), (120.2, 50.3)], 4, (200, 200))
    mask |= draw_crack([(20.2, 150.3), (180.2, 150.3)], 4, (200, 200))
    check(mask, 260, 4)


@pytest.mark.parametrize("width", [5, 9])
def test_a_ragged_rim_adds_no_length(width: float) -> None:
    points = line((150.2, 100.3), 260, 5)
    mask = draw_crack(points, width, (200, 300))
    rng = np.random.default_rng(7)
    rim = draw_crack(points, width + 2, (200, 300)) & ~mask
    mask |= rim & (rng.random(mask.shape) < 0.3)
    assert measure_mask(mask).length_px == pytest.approx(260, rel=0.05)


def test_widest_place() -> None:
    mask = draw_crack([(20.2, 50.3), (280.2, 50.3)], 3, (100, 300))
    mask |= draw_crack([(120.2, 50.3), (160.2, 50.3)], 9, (100, 300))
    assert measure_mask(mask).max_width_px == pytest.approx(9, abs=1)


@pytest.mark.parametrize(
    ("shape", "length", "width"),
    [((1, 1), 1, 1), ((1, 2), 2, 1), ((7, 1), 7, 1), ((2, 2), 2, 2), ((9, 9), 9, 9)],
)
def test_tiny_masks(shape: tuple[int, int], length: float, width: float) -> None:
    got = measure_mask(np.ones(shape, dtype=bool))
    assert got.length_px == pytest.approx(length, abs=1)
    assert got.max_width_px == pytest.approx(width, abs=1)


@pytest.mark.slow  # importing skan compiles
def test_agrees_with_skan_on_a_crack_without_slopes() -> None:
    import skan

    mask = np.zeros((60, 200), dtype=bool)
    mask[30, 10:190] = True
    mask[30:50, 100] = True
    branches = skan.summarize(skan.Skeleton(mask), separator="-")
    got = measure_mask(mask).length_px
    # skan measures from pixel centre to pixel centre; three ends add half a pixel each.
    assert got == pytest.approx(branches["branch-distance"].sum() + 1.5, abs=1.5)
