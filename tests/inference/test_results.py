from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from crack_data.inference.measuring import measure
from crack_data.inference.results import Record, Scale, to_json, uncertainty

from .drawn import draw_crack, line
from .test_prediction import prediction_of


def json_of(mask: np.ndarray, scales: list[Scale | None] | None = None) -> Record:
    prediction = prediction_of(mask)
    return to_json(prediction, "wall.jpg", list(map(measure, prediction.instances)), scales)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("pad", [(0, 0), (0, 6), (3, 0), (3, 6)])
def test_rle_is_what_pycocotools_makes_of_the_whole_mask(
    share: float, pad: tuple[int, int]
) -> None:
    mask = np.random.default_rng(5).random((25, 40)) < share
    mask[[0, -1], :] = mask[:, [0, -1]] = True  # runs that go on in the next column
    mask = np.pad(mask, ((pad[0], pad[0]), (pad[1], pad[1])))
    expected = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    found = json_of(mask)["instances"][0]["segmentation"]
    assert found == {"size": list(mask.shape), "counts": expected["counts"].decode()}


def test_json_of_a_photo() -> None:
    mask = draw_crack(line((60.2, 40.3), 80, 0), 4, (80, 120))
    result = json_of(mask, [Scale(0.5, 0.5)])
    json.dumps(result)
    assert (result["file_name"], result["height"], result["width"]) == ("wall.jpg", 80, 120)
    assert result["percent_masked"] == 100 * mask.sum() / mask.size
    (crack,) = result["instances"]
    assert crack["score"] == 0.9
    assert crack["area"] == mask.sum()
    assert np.array_equal(coco_mask.decode(crack["segmentation"]), mask)
    assert list(coco_mask.toBbox(crack["segmentation"])) == crack["bbox"]
    assert crack["length_px"] == pytest.approx(80, abs=2)
    assert crack["length_mm"] == pytest.approx(crack["length_px"] / 2, abs=0.01)
    assert crack["max_width_mm"] == pytest.approx(crack["max_width_px"] / 2, abs=0.01)
    assert crack["area_mm2"] == pytest.approx(mask.sum() / 4)


def test_no_millimetres_without_a_scale() -> None:
    mask = np.ones((3, 3), dtype=bool)
    assert not any("mm" in key for key in json_of(mask)["instances"][0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 10], 0.0), ([255, 255], 0.0), ([127, 128], 1.0), ([255, 128], 0.5), ([0, 64], 0.752)],
)
def test_uncertainty_is_that_of_pixels_that_may_be_crack(
    values: list[int], expected: float
) -> None:
    counts = np.bincount(values, minlength=256)
    assert uncertainty(counts) == pytest.approx(expected, abs=0.001)
