from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_data.evaluation.instance_metrics import count_instances, summarize_instances
from crack_data.inference.prediction import CrackInstance
from tests.evaluation import reference

Line = list[tuple[int, int]]


def draw(
    *points: tuple[int, int], width: int = 3, size: tuple[int, int] = (100, 160)
) -> np.ndarray:
    """A polyline through (x, y) points, bool (H, W)."""
    mask = np.zeros(size, np.uint8)
    cv2.polylines(mask, [np.array(points)], False, 1, width)
    return mask.astype(bool)


def instance(mask: np.ndarray, score: float = 1.0) -> CrackInstance:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return CrackInstance(score, (x, y, x + width, y + height), mask[y : y + height, x : x + width])


def count(true: list[np.ndarray], predicted: list[np.ndarray]):
    return count_instances([instance(x) for x in true], [instance(x) for x in predicted])


LONG = draw((10, 50), (150, 50))
LEFT, RIGHT = draw((10, 50), (60, 50)), draw((90, 50), (150, 50))
BELOW = draw((10, 70), (150, 70))
FALLING, RISING = draw((20, 10), (140, 90)), draw((20, 90), (140, 10))


@pytest.mark.parametrize(
    ("true", "predicted", "matched", "splits", "merges"),
    [
        ([LONG], [LONG], 9, 0, 0),
        ([LONG], [draw((10, 52), (150, 52), width=5)], 9, 0, 0),  # a little off, and wider
        ([LONG], [BELOW], 0, 0, 0),
        ([LONG], [LEFT, RIGHT], 6, 1, 0),  # the longer half is found: clDice .61
        ([LEFT, RIGHT], [LONG], 6, 0, 1),
        ([LONG, BELOW], [LONG | BELOW | draw((80, 50), (80, 70))], 6, 0, 1),
        ([FALLING, RISING], [FALLING, RISING], 18, 0, 0),  # each touches the other's middle
        ([FALLING, RISING], [FALLING], 9, 0, 0),
        ([FALLING, RISING], [FALLING | RISING], 6, 0, 1),
        ([LONG], [], 0, 0, 0),
        ([], [LONG], 0, 0, 0),
        ([], [], 0, 0, 0),
    ],
)
def test_matches_splits_and_merges(
    true: list[np.ndarray], predicted: list[np.ndarray], matched: int, splits: int, merges: int
) -> None:
    counts = count(true, predicted)
    assert (counts.true, counts.predicted) == (len(true), len(predicted))
    assert counts.matched.sum() == matched
    assert (counts.false_splits, counts.false_merges) == (splits, merges)


def test_share_of_the_centreline_that_any_prediction_covers() -> None:
    photo = count([LONG, BELOW], [LEFT, RIGHT])
    assert photo.line == pytest.approx(2 * 140, abs=8)
    assert photo.line_covered == pytest.approx(50 + 60 + 8, abs=4)
    summary = summarize_instances([photo, photo])
    assert summary["centreline_coverage"] == photo.line_covered / photo.line
    assert summary["false_splits"] == summary["false_splits_low"] == 1


def test_set_without_instances() -> None:
    summary = summarize_instances([count([], []), count([], [])])
    assert summary["avF1"] == summary["centreline_coverage"] == 1
    assert summary["false_splits"] == summary["false_merges"] == 0


def test_false_alarm_lowers_avf1() -> None:
    assert summarize_instances([count([LONG], [LONG]), count([], [LONG])])["avF1"] == pytest.approx(
        2 / 3
    )


@st.composite
def instances(draw_: st.DrawFn) -> list[np.ndarray]:
    """Up to four short lines, which may touch, cross, or lie on each other."""
    point = st.tuples(st.integers(0, 27), st.integers(0, 21))
    lines = draw_(st.lists(st.tuples(point, point, point, st.integers(1, 6)), max_size=4))
    return [draw(*points, width=width, size=(22, 28)) for *points, width in lines]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(instances(), instances()), min_size=1, max_size=1))
def test_second_computation_agrees(photos: list[tuple[list[np.ndarray], list[np.ndarray]]]) -> None:
    counts = [count(true, predicted) for true, predicted in photos]
    assert summarize_instances(counts)["avF1"] == pytest.approx(reference.av_f1(photos))
    for (true, predicted), photo in zip(photos, counts, strict=True):
        expected = reference.splits_and_merges(true, predicted)
        assert (photo.false_splits, photo.false_merges) == expected
