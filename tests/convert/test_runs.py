"""Runs say the same as the masks and label maps they were made of."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crack_data.convert.runs import Runs

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 20))
MASKS = arrays(np.uint8, SHAPES, elements=st.integers(0, 1))


@given(mask=MASKS)
@settings(max_examples=100, deadline=None)
def test_painting_gives_the_labels_back(mask: np.ndarray) -> None:
    count, labels = cv2.connectedComponents(mask)
    runs = Runs.of(mask, labels)
    assert np.array_equal(runs.paint(mask.shape), labels)
    assert np.array_equal(Runs.of(mask).paint(mask.shape), mask)
    assert list(runs.columns) == sorted(runs.columns)
    numbers = np.arange(count)[::-1] * (np.arange(count) > 0)  # the last one's becomes 0
    turned = runs.renumbered(numbers)
    assert np.array_equal(turned.paint(mask.shape), numbers[labels])
    assert turned.owners.all()
    assert list(turned.owners) == sorted(turned.owners)


def test_no_runs() -> None:
    assert not Runs.of(np.zeros((3, 4), np.uint8)).paint((3, 4)).any()
    assert Runs.none().paint((0, 0)).shape == (0, 0)
