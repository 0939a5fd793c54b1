from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crack_data.evaluation.bootstrap import bootstrap_intervals


def mean_of(values: np.ndarray):
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_interval_of_a_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=80)
    low, high = bootstrap_intervals(len(values), mean_of(values))["mean"]
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=0.08 * width)
    assert high == pytest.approx(theirs.high, abs=0.08 * width)


def test_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        values = rng.normal(size=60)
        low, high = bootstrap_intervals(60, mean_of(values))["mean"]
        covered += low <= 0 <= high
    assert 0.90 <= covered / 200 <= 0.98


def test_the_same_photos_give_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=30)
    assert bootstrap_intervals(30, mean_of(values)) == bootstrap_intervals(30, mean_of(values))


def test_one_photo_has_an_interval_of_no_width() -> None:
    assert bootstrap_intervals(1, mean_of(np.array([0.7]))) == {"mean": (0.7, 0.7)}


def test_resamples_that_do_not_define_a_statistic_are_left_out() -> None:
    def mean_of_second(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights[:, 1] > 0
        return {"second": np.where(drawn, 0.25, np.nan)}

    assert bootstrap_intervals(2, mean_of_second) == {"second": (0.25, 0.25)}
