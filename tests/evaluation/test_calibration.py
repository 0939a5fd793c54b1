"""Thresholds and intervals that are chosen on labelled photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crack_data.calibration import Calibration, Interval, calibration_path, read_calibration, spread
from crack_data.errors import CrackError
from crack_data.evaluation.calibration import (
    CalibrationPhoto,
    choose_score_threshold,
    fit_interval,
    predicted_percent,
    unbiased_threshold,
)


def _photos(count: int, rng: np.random.Generator, group: int = 1) -> list[CalibrationPhoto]:
    """Photos of 10,000 px whose maps are unsure by different amounts, and err by as much."""
    photos = []
    for number in range(count):
        sure, doubtful = rng.integers(0, 400), rng.integers(5, 400)
        levels = np.zeros(256, np.int64)
        levels[255], levels[rng.integers(64, 192)] = sure, doubtful
        levels[0] = 10_000 - levels.sum()
        true = (sure + doubtful * rng.uniform()) / 100.0
        photos.append(CalibrationPhoto(str(number // group), true, levels, spread(levels)))
    return photos


@pytest.mark.parametrize("group", [1, 4])
def test_the_interval_holds_what_it_promises_on_other_photos(group: int) -> None:
    """Split at random 200 times: calibrated on one half, 88 to 92 % of the other lie within."""
    rng = np.random.default_rng(0)
    photos = _photos(200 * group, rng, group)
    names = sorted({photo.group for photo in photos})
    held = []
    for _ in range(200):
        chosen = set(rng.permutation(names)[: len(names) // 2])
        interval = fit_interval([x for x in photos if x.group in chosen], 0.5)
        assert interval is not None
        for photo in (x for x in photos if x.group not in chosen):
            low, high = interval.around(predicted_percent(photo.levels, 0.5), photo.spread)
            held.append(low <= photo.true_percent <= high)
    assert 0.88 <= np.mean(held) <= 0.92


def test_sure_photos_get_narrow_intervals() -> None:
    interval = Interval(0.9, -1.0, 1.0)
    sure, unsure = np.zeros(256), np.zeros(256)
    sure[[0, 255]] = 9000, 1000
    unsure[[0, 128]] = 9000, 1000
    narrow, wide = (interval.around(10.0, spread(x)) for x in (sure, unsure))
    assert narrow[1] - narrow[0] < 0.1 < 5 < wide[1] - wide[0]
    assert interval.around(0.0, spread(sure))[0] == 0.0


def test_too_few_photos_give_no_interval() -> None:
    assert fit_interval(_photos(39, np.random.default_rng(0)), 0.5) is None


@pytest.mark.parametrize(
    ("scores", "rate", "alarms"),
    [([0.1, 0.5, 0.9], 0.0, 0), ([0.1, 0.5, 0.9], 0.34, 1), ([0.0] * 5, 0.02, 0), ([0.7], 0.0, 0)],
)
def test_the_score_threshold_lets_the_wanted_share_pass(
    scores: list[float], rate: float, alarms: int
) -> None:
    threshold, bound = choose_score_threshold(scores, rate)
    assert sum(score >= threshold for score in scores) == alarms
    assert alarms / len(scores) < bound <= 1.0


def test_the_bound_is_the_exact_one() -> None:
    """No alarm among n photos: the upper 95 % bound is 1 - 0.05 ** (1 / n)."""
    assert choose_score_threshold([0.2] * 50, 0.0)[1] == pytest.approx(1 - 0.05 ** (1 / 50))


def test_without_crack_free_photos_there_is_no_score_threshold() -> None:
    with pytest.raises(CrackError, match="crack-free"):
        choose_score_threshold([], 0.02)


def test_the_pixel_threshold_has_no_bias() -> None:
    levels = np.zeros(256, np.int64)
    levels[[0, 50, 100, 200]] = 9700, 100, 100, 100
    photos = [CalibrationPhoto("a", 2.0, levels, 1.0), CalibrationPhoto("b", 2.0, levels, 1.0)]
    assert 50 / 255 < unbiased_threshold(photos) < 100 / 255


def test_it_is_stored_beside_the_checkpoint(tmp_path: Path) -> None:
    weights = str(tmp_path / "model.pth")
    assert read_calibration(weights) is None
    stored = Calibration(0.6, 0.45, 0.02, 0.08, 60, 300, 200, Interval(0.9, -1.5, 2.0))
    stored.write(calibration_path(weights))
    assert read_calibration(weights) == stored


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"score_threshold": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    weights = str(tmp_path / "model.pth")
    calibration_path(weights).write_text(content)
    with pytest.raises(CrackError, match="is damaged"):
        read_calibration(weights)
