from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from crack_data.evaluation.metrics import WIDTHS, count_photo, dilate, local_widths
from tests.evaluation.reference import near

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))


@st.composite
def photos(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    truth = draw(npst.arrays(bool, shape))
    mask = draw(npst.arrays(bool, shape))
    return truth, mask, draw(npst.arrays(np.uint8, shape))


@settings(max_examples=60, deadline=None)
@given(photos())
def test_counts_equal_those_of_all_pairs_of_pixels(photo) -> None:
    truth, mask, crack_map = photo
    counts = count_photo(truth, mask, crack_map)
    assert counts.area == truth.size
    assert (counts.true, counts.predicted) == (truth.sum(), mask.sum())
    assert counts.hit == sum(t and m for t, m in zip(truth.flat, mask.flat, strict=True))
    assert counts.predicted_near == near(mask, truth, 2)
    assert counts.true_near == near(truth, mask, 2)


@settings(max_examples=30, deadline=None)
@given(photos(), st.integers(1, 255))
def test_histograms_hold_the_counts_of_every_cut(photo, level: int) -> None:
    truth, mask, crack_map = photo
    counts = count_photo(truth, mask, crack_map)
    cut = crack_map >= level
    assert counts.map_all[level:].sum() == cut.sum()
    assert counts.map_true[level:].sum() == (cut & truth).sum()


@pytest.mark.parametrize(
    ("offset", "counted"),
    [
        ((0, 2), True),  # two pixels away along a row
        ((1, 1), True),
        ((1, 2), False),  # 2.24 px
        ((2, 2), False),  # the corner that a square neighbourhood would take in
        ((0, 3), False),
    ],
)
def test_tolerance_is_euclidean_and_inclusive(offset: tuple[int, int], counted: bool) -> None:
    truth = np.zeros((9, 9), dtype=bool)
    mask = truth.copy()
    truth[3, 3] = mask[3 + offset[0], 3 + offset[1]] = True
    counts = count_photo(truth, mask, mask.astype(np.uint8))
    assert (counts.predicted_near, counts.true_near) == (counted, counted)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 5)])
@pytest.mark.parametrize("filled", [False, True])
def test_empty_and_full_masks_of_any_shape(shape: tuple[int, int], filled: bool) -> None:
    mask = np.full(shape, filled)
    counts = count_photo(mask, mask, mask * np.uint8(255))
    area = mask.size if filled else 0
    assert (counts.true, counts.predicted, counts.hit) == (area, area, area)
    assert (counts.predicted_near, counts.true_near) == (area, area)
    assert counts.map_all.sum() == mask.size


@settings(max_examples=30, deadline=None)
@given(SHAPES.flatmap(lambda shape: npst.arrays(bool, shape)), st.integers(0, 5))
def test_dilation_is_everything_within_the_radius(mask: np.ndarray, radius: int) -> None:
    assert dilate(mask, radius).sum() == near(np.ones_like(mask), mask, radius)


@pytest.mark.parametrize("width", [2, 4, 10, 30, 60])
def test_local_width_of_a_bar(width: int) -> None:
    bar = np.zeros((100, 300), bool)
    bar[20 : 20 + width, 5:295] = True
    widths = local_widths(bar)
    middle = widths.reshape(width, 290)[:, 100:190]
    assert (np.abs(middle - width) <= 1).all()


def test_local_width_follows_the_crack() -> None:
    """A crack that is 3 px wide on the left and 20 on the right is counted where it is which."""
    truth = np.zeros((60, 400), bool)
    truth[28:31, :200] = truth[20:40, 200:] = True
    mask = truth.copy()
    mask[:, :200] = False
    counts = count_photo(truth, mask, mask * np.uint8(255))
    narrow, wide = WIDTHS.index(3), WIDTHS.index(12)
    assert counts.width_true.sum() == truth.sum()
    assert counts.width_true[narrow] == pytest.approx(600, abs=60)
    assert counts.width_hit[narrow] <= 60
    assert counts.width_hit[wide] == pytest.approx(4000, abs=300)


@settings(max_examples=30, deadline=None)
@given(photos(), st.integers(0, 2**32 - 1))
def test_ignored_pixels_are_counted_nowhere(photo, seed: int) -> None:
    """Whatever the prediction says about them, every count is the same, and that of a photo in
    which they are background on both sides.
    """
    truth, mask, crack_map = photo
    rng = np.random.default_rng(seed)
    ignored = rng.random(truth.shape) < 0.3
    other = mask ^ (ignored & (rng.random(truth.shape) < 0.5))
    changed = np.where(ignored, rng.integers(0, 256, truth.shape), crack_map).astype(np.uint8)
    counts = count_photo(truth, mask, crack_map, ignored)
    again = count_photo(truth | ignored, other, changed, ignored)
    without = count_photo(truth & ~ignored, mask & ~ignored, crack_map * ~ignored)
    assert counts.area == truth.size - ignored.sum()
    for name, value in counts._asdict().items():
        assert np.array_equal(value, getattr(again, name)), name
        if name != "area":
            assert np.array_equal(value, getattr(without, name)), name
