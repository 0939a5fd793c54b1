"""What a good request gets, from a real server over HTTP."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import requests
from pycocotools import mask as coco_mask

from crack_data.calibration import Interval
from crack_data.inference.drawing import draw_prediction
from crack_data.inference.measuring import measure
from crack_data.inference.results import to_json

from .conftest import running_server

if TYPE_CHECKING:
    from crack_data.inference.prediction import CrackPrediction
    from crack_data.inference.predictor import CrackPredictor


def post(url: str, png: bytes, query: str = "", **headers: str) -> requests.Response:
    """Post a photo in a form."""
    return requests.post(
        f"{url}/predict{query}",
        files={"image": ("wall.png", png)},
        headers=headers,
        timeout=60,
    )


def decoded(response: requests.Response) -> np.ndarray:
    """The picture in a response."""
    return cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_answers_with_the_drawn_photo(
    url: str, png: bytes, photo: np.ndarray, predictor: CrackPredictor
) -> None:
    response = post(url, png)
    prediction = predictor(photo)
    assert prediction.instances  # else the rest proves nothing
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    np.testing.assert_array_equal(decoded(response), draw_prediction(photo, prediction))
    masked = float(response.headers["X-Crack-Percent-Masked"])
    assert masked == pytest.approx(prediction.percent_masked, abs=6e-5)
    assert masked + float(response.headers["X-Crack-Percent-Unmasked"]) == 100
    assert int(response.headers["X-Crack-Count"]) == len(prediction.instances)
    stages = [part.split(";dur=") for part in response.headers["Server-Timing"].split(", ")]
    assert [name for name, _ in stages] == ["decode", "queue", "predict", "encode"]
    assert all(float(ms) >= 0 for _, ms in stages)


@pytest.mark.parametrize("field", ["image", "file", "file1"])
def test_takes_the_photo_from_any_of_the_fields(url: str, png: bytes, field: str) -> None:
    response = requests.post(url + "/predict", files={field: png}, timeout=60)
    assert response.content == post(url, png).content


def test_takes_a_raw_body(url: str, png: bytes) -> None:
    response = requests.post(
        url + "/predict", data=png, headers={"Content-Type": "image/png"}, timeout=60
    )
    assert response.content == post(url, png).content


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/png;q=0.4, image/jpeg;q=0.6", "image/jpeg"),
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "image/png"),  # a browser's
    ],
)
def test_accept_chooses_the_form(url: str, png: bytes, accept: str, media_type: str) -> None:
    response = post(url, png, Accept=accept)
    assert response.headers["Content-Type"] == media_type
    assert response.headers["Vary"] == "Accept"


def test_jpeg_shows_the_same_picture(url: str, png: bytes) -> None:
    drawn = decoded(post(url, png))
    jpeg = decoded(post(url, png, "?format=jpeg"))
    # Saturated speckles lose most: compare what a JPEG of high quality would keep.
    expected = cv2.imdecode(cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 92])[1], 1)
    np.testing.assert_array_equal(jpeg, expected)


def test_json_equals_the_predictors(
    url: str, png: bytes, photo: np.ndarray, predictor: CrackPredictor
) -> None:
    answer = post(url, png, "?format=json").json()
    prediction = predictor(photo)
    measured = [measure(instance) for instance in prediction.instances]
    assert answer == to_json(prediction, "wall.png", measured)
    union = np.zeros(photo.shape[:2], bool)
    for instance in answer["instances"]:
        union |= coco_mask.decode(instance["segmentation"]).astype(bool)
    assert answer["percent_masked"] == pytest.approx(100 * union.mean())


def test_json_carries_the_drawing_on_request(url: str, png: bytes) -> None:
    answer = post(url, png, "?format=json&overlay=true").json()
    head, data = answer["overlay"].split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == post(url, png).content


def test_mask_is_the_union(url: str, png: bytes, photo: np.ndarray) -> None:
    response = post(url, png, "?format=mask")
    mask = decoded(response)
    assert mask.shape == photo.shape[:2]
    assert set(np.unique(mask)) <= {0, 255}
    share = 100 * (mask > 0).mean()
    assert share == pytest.approx(float(response.headers["X-Crack-Percent-Masked"]), abs=6e-5)


def test_threshold_holds_for_its_request_only(
    url: str, png: bytes, photo: np.ndarray, predictor: CrackPredictor
) -> None:
    def masked(query: str) -> float:
        return float(post(url, png, query).headers["X-Crack-Percent-Masked"])

    before = masked("")
    assert masked("?threshold=0") == pytest.approx(
        predictor(photo, threshold=0).percent_masked, abs=6e-5
    )
    assert masked("?threshold=1") == 0
    assert masked("?threshold=0") > masked("?threshold=1")
    assert masked("") == before


def test_a_calibrated_model_gives_its_interval(png: bytes, predictor: CrackPredictor) -> None:
    def calibrated(image: np.ndarray, threshold: float | None, _: object) -> CrackPrediction:
        return replace(predictor(image, threshold), interval=Interval(0.9, -0.5, 2.0))

    with running_server(calibrated, deadline_s=600) as url:
        headers = post(url, png).headers
        answer = post(url, png, "?format=json").json()
    low, masked, high = (float(headers[f"X-Crack-Percent-{x}"]) for x in ("Low", "Masked", "High"))
    assert low < masked < high
    assert low == pytest.approx(answer["percent_masked_low"], abs=6e-5)
    assert high == pytest.approx(answer["percent_masked_high"], abs=6e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (37, 1500)])
def test_odd_sizes(url: str, size: tuple[int, int]) -> None:
    data = cv2.imencode(".png", np.full((*size, 3), 128, np.uint8))[1].tobytes()
    response = post(url, data)
    assert response.status_code == 200
    assert decoded(response).shape[:2] == size
