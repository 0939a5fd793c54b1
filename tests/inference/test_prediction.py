from __future__ import annotations

import numpy as np
import pytest

from crack_data.inference.prediction import CrackInstance, CrackPrediction


def cropped(mask: np.ndarray, score: float = 0.9) -> CrackInstance:
    instance = CrackInstance.from_mask(score, mask)
    assert instance is not None
    return instance


def prediction_of(*masks: np.ndarray) -> CrackPrediction:
    union = np.any(masks, axis=0).astype(np.uint8) * np.uint8(255)
    instances = tuple(cropped(mask) for mask in masks)
    return CrackPrediction(instances, (), union, 0.5, np.zeros(256, int))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (20, 30)])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_an_instance_is_cropped_to_its_pixels(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(3).random(shape) < share
    mask.flat[0] = True
    framed = np.pad(mask, ((2, 3), (4, 5)))
    instance = CrackInstance.from_mask(0.5, framed, (100, 200))
    assert instance is not None
    x0, y0, x1, y1 = instance.box
    found = np.zeros((300, 200), dtype=bool)
    found[y0:y1, x0:x1] = instance.mask
    expected = np.zeros_like(found)
    expected[200 : 200 + framed.shape[0], 100 : 100 + framed.shape[1]] = framed
    assert np.array_equal(found, expected)
    assert instance.area == mask.sum()
    # Tight: every side of the box touches the mask.
    sides = (instance.mask[0], instance.mask[-1], instance.mask[:, 0], instance.mask[:, -1])
    assert all(side.any() for side in sides)


def test_no_pixel_no_instance() -> None:
    assert CrackInstance.from_mask(0.5, np.zeros((4, 6), bool)) is None


def test_percentages_count_shared_pixels_once() -> None:
    first, second = np.zeros((10, 20), dtype=bool), np.zeros((10, 20), dtype=bool)
    first[2:6, 2:10] = True
    second[4:8, 6:14] = True
    prediction = prediction_of(first, second)
    assert np.array_equal(prediction.mask, first | second)
    assert prediction.percent_masked == pytest.approx(100 * 56 / 200)
    assert prediction.percent_masked + prediction.percent_unmasked == 100


def test_nothing_found() -> None:
    nothing = np.zeros((4, 6), dtype=np.uint8)
    prediction = CrackPrediction((), (), nothing, 0.5, np.zeros(256, int))
    assert prediction.percent_masked == 0
    assert prediction.percent_unmasked == 100
    assert prediction.mask.shape == (4, 6)


def test_whole_photo() -> None:
    assert prediction_of(np.ones((5, 7), dtype=bool)).percent_masked == 100
