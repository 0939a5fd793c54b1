from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from crack_data.evaluation.metrics import (
    THRESHOLDS,
    PhotoCounts,
    count_photo,
    pixel_statistics,
    ratio,
    recall_by_width,
    summarize,
    with_intervals,
)
from tests.evaluation import reference
from tests.evaluation.reference import Photo


def count(photo: Photo) -> PhotoCounts:
    levels = np.rint(photo.probability * 255).astype(np.uint8)
    return count_photo(photo.truth, photo.mask, levels)


def metrics(photos: list[Photo]) -> dict[str, float]:
    values = pixel_statistics([count(photo) for photo in photos])(np.ones((1, len(photos))))
    return {name: float(value[0]) for name, value in values.items()}


def draw_photo(rng: np.random.Generator, cracked: bool) -> Photo:
    """A small photo with a wandering crack, and a noisy map that found it a little off."""
    truth = np.zeros((16, 22), dtype=bool)
    if cracked:
        rows = np.clip(8 + np.cumsum(rng.integers(-1, 2, 22)), 0, 15)
        truth[rows, np.arange(22)] = True
    moved = np.roll(truth, rng.integers(-3, 4, 2), axis=(0, 1))
    probability = np.clip(0.7 * moved + rng.normal(0, 0.15, truth.shape), 0, 1)
    mask = probability > rng.uniform(0.3, 0.6)
    if not cracked and rng.random() < 0.5:
        mask[:] = False
    return Photo(truth, mask, probability)


@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_the_pixel_by_pixel_computation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photos = [draw_photo(rng, cracked) for cracked in (True, True, True, False, False)]
    ours = metrics(photos)
    expected = reference.metrics(photos)
    assert ours.keys() == expected.keys()
    assert ours == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_pixels_equal_the_pixel_by_pixel_computation(data: st.DataObject) -> None:
    """Arbitrary masks and maps of arbitrary small sizes, equal levels and extremes included."""
    photos = [Photo(np.zeros((2, 3), bool), np.zeros((2, 3), bool), np.zeros((2, 3)))]
    for _ in range(data.draw(st.integers(1, 3))):
        shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
        levels = data.draw(npst.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 90, 255])))
        truth = data.draw(npst.arrays(bool, shape))
        truth[0, 0] = True
        photos.append(Photo(truth, data.draw(npst.arrays(bool, shape)), levels / 255))
    ours = metrics(photos)
    assert ours == pytest.approx(reference.metrics(photos), abs=1e-12)


def test_weights_are_repetitions_of_photos() -> None:
    rng = np.random.default_rng(3)
    photos = [draw_photo(rng, cracked) for cracked in (True, True, False)]
    weighted = pixel_statistics([count(photo) for photo in photos])(np.array([[2.0, 0.0, 1.0]]))
    repeated = metrics([photos[0], photos[0], photos[2]])
    assert {name: value[0] for name, value in weighted.items()} == pytest.approx(repeated)


def test_resamples_stand_side_by_side() -> None:
    rng = np.random.default_rng(4)
    statistics = pixel_statistics([count(draw_photo(rng, x)) for x in (True, True, False)])
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    together = statistics(weights)
    for row in range(3):
        alone = statistics(weights[row : row + 1])
        for name, value in together.items():
            assert value[row] == pytest.approx(alone[name][0], nan_ok=True), name


def test_resample_without_the_photos_that_define_a_metric() -> None:
    rng = np.random.default_rng(5)
    statistics = pixel_statistics([count(draw_photo(rng, x)) for x in (True, False)])
    alarms = statistics(np.array([[2.0, 0.0], [0.0, 2.0]]))["false_alarm_rate"]
    assert np.isnan(alarms).tolist() == [True, False]


def test_perfect_prediction() -> None:
    truth = np.zeros((12, 12), bool)
    truth[4, 2:9] = True
    ours = metrics([Photo(truth, truth, truth.astype(float))])
    assert ours["coverage_mae"] == ours["coverage_bias"] == 0
    scores = {name: value for name, value in ours.items() if name.startswith(("f1", "iou"))}
    assert set(scores.values()) == {1.0}
    assert "false_alarm_rate" not in ours


def test_nothing_predicted() -> None:
    truth = np.zeros((12, 12), bool)
    truth[4, 2:8] = True
    blank = np.zeros((12, 12), bool)
    ours = metrics([Photo(truth, blank, blank.astype(float))])
    assert ours["f1"] == ours["iou"] == ours["recall"] == ours["f1_2px"] == ours["f1_ods"] == 0
    assert ours["precision"] == 1
    assert ours["coverage_bias"] == -ours["coverage_mae"] == pytest.approx(-100 * 6 / 144)


def test_set_without_cracks() -> None:
    blank = np.zeros((5, 5), bool)
    alarm = blank.copy()
    alarm[2, 2] = True
    quiet = Photo(blank, blank, blank.astype(float))
    loud = Photo(blank, alarm, alarm.astype(float))
    ours = metrics([quiet, loud, quiet, quiet])
    assert ours["false_alarm_rate"] == 0.25
    assert ours["f1"] == 0


def test_ratio_of_nothing_is_one() -> None:
    assert ratio(np.array([0.0, 0.0, 1.0]), np.array([0.0, 2.0, 2.0])).tolist() == [1, 0, 0.5]


def test_thresholds_split_the_levels() -> None:
    """A rounded level is at least the cut exactly where the probability exceeds the threshold."""
    levels = np.arange(256)
    for cut, threshold in enumerate(THRESHOLDS, start=1):
        assert ((levels / 255 > threshold) == (levels >= cut)).all()


def test_photo_that_is_ignored_altogether_counts_for_nothing() -> None:
    blank = np.zeros((4, 4), bool)
    everything = np.ones((4, 4), bool)
    photos = [
        count_photo(everything, blank, blank.astype(np.uint8), everything),
        count(Photo(blank, blank, blank.astype(float))),
    ]
    assert summarize(photos)["coverage_mae"] == 0


def test_recall_by_width() -> None:
    truth = np.zeros((80, 200), bool)
    truth[10:12, :] = truth[30:60, :] = True
    mask = truth.copy()
    mask[30:60, 50:] = False
    widths = recall_by_width([count_photo(truth, mask, mask * np.uint8(255))] * 2)
    assert list(widths) == ["0-3", "25-50"]
    assert widths["0-3"] == pytest.approx((1 / 16, 1.0))
    assert widths["25-50"] == pytest.approx((15 / 16, 0.25))
    assert recall_by_width([count_photo(~truth & truth, mask, mask * np.uint8(255))]) == {}


def bounds_of(values: np.ndarray) -> tuple[float, float]:
    """The interval of a mean, under the name of a metric that has one."""
    result = with_intervals(
        len(values), lambda weights: {"f1": weights @ values / weights.sum(axis=1)}
    )
    assert result["f1"] == pytest.approx(values.mean())
    return result["f1_low"], result["f1_high"]


def test_interval_of_a_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=80)
    low, high = bounds_of(values)
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
        low, high = bounds_of(values)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 200 <= 0.98


def test_the_same_photos_give_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=30)
    assert bounds_of(values) == bounds_of(values)


def test_one_photo_has_an_interval_of_no_width() -> None:
    assert bounds_of(np.array([0.7])) == (0.7, 0.7)


def test_resamples_that_do_not_define_a_statistic_are_left_out() -> None:
    def mean_of_second(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights[:, 1] > 0
        return {"f1": np.where(drawn, 0.25, np.nan)}

    found = with_intervals(2, mean_of_second)
    assert found == {"f1": 0.25, "f1_low": 0.25, "f1_high": 0.25}
