"""Answers: a prediction in the form asked for, a problem document for each error, their schemas."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import marshmallow as ma
import numpy as np
from flask import Request, g, json, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotAcceptable
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wrappers import Response

from crack_data.inference.drawing import draw_prediction
from crack_data.inference.prediction import CrackPrediction
from crack_data.inference.results import to_json

# The forms of an answer and their media types; in order of preference when the client has none.
MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "json": "application/json",
    "mask": "image/png",
}
PROBLEM_TYPE = "application/problem+json"
_JPEG_QUALITY = 92


def choose_form(request: Request, wanted: str | None) -> str:
    """Decide on the form of the answer: the option's, else the ``Accept`` header's.

    Raises:
        NotAcceptable: the header accepts none of the media types.
    """
    if wanted is not None:
        return wanted
    accepted = request.accept_mimetypes
    choices = list(MEDIA_TYPES)[:3]
    best = accepted.best_match([MEDIA_TYPES[form] for form in choices]) if accepted else "image/png"
    for form in choices:
        if MEDIA_TYPES[form] == best:
            return form
    offered = ", ".join(MEDIA_TYPES[form] for form in choices)
    raise NotAcceptable(f"Accept is {accepted}; the answer can be {offered}")


def encode_answer(
    image: np.ndarray, prediction: CrackPrediction, name: str, form: str, overlay: bool
) -> bytes:
    """Write the body of an answer.

    Args:
        image: the photo, BGR uint8 (height, width, 3).
        prediction: its prediction.
        name: how the client calls the photo.
        form: a key of `MEDIA_TYPES`.
        overlay: put the drawn photo into the JSON as well.
    """
    if form == "mask":
        return _picture(".png", prediction.mask.view(np.uint8) * np.uint8(255))
    if form == "json":
        document = to_json(prediction, name)
        if overlay:
            drawn = _picture(".png", draw_prediction(image, prediction))
            data = base64.b64encode(drawn).decode("ascii")
            document["overlay"] = f"data:image/png;base64,{data}"
        return json.dumps(document).encode()
    return _picture("." + form, draw_prediction(image, prediction))


def percent_headers(prediction: CrackPrediction) -> dict[str, str]:
    """The headers with the percentages, which sum to 100, and the number of instances."""
    masked = round(prediction.percent_masked, 4)
    interval = {}
    if prediction.percent_range is not None:
        low, high = prediction.percent_range
        interval = {"X-Crack-Percent-Low": f"{low:.4f}", "X-Crack-Percent-High": f"{high:.4f}"}
    return {
        "X-Crack-Percent-Masked": f"{masked:.4f}",
        "X-Crack-Percent-Unmasked": f"{100 - masked:.4f}",
        **interval,
        "X-Crack-Count": str(len(prediction.instances)),
    }


def _picture(suffix: str, pixels: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == ".jpeg" else []
    ok, data = cv2.imencode(suffix, pixels, options)
    if not ok:
        raise RuntimeError(f"OpenCV could not write a {suffix} of shape {pixels.shape}")
    return data.tobytes()


def problem_response(error: HTTPException) -> Response:
    """Turn an HTTP exception into its problem document (RFC 9457); a redirect passes unchanged."""
    response = error.get_response(request.environ)
    if not isinstance(response, Response) or response.status_code < 400:
        return response
    status = response.status_code
    document = {
        "type": "about:blank",  # so the title is the status phrase
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        "detail": " ".join((error.description or error.name).split()),
        "instance": request.path,
        "request_id": g.get("request_id", ""),
    }
    if isinstance(error, MethodNotAllowed) and request.path == "/predict":
        document["detail"] = (
            f"/predict takes photos by POST, not {request.method}; for example "
            f"curl -F image=@photo.jpg {request.base_url} -o out.png"
        )
    response.set_data(json.dumps(document))
    response.content_type = PROBLEM_TYPE
    return response


class ProblemSchema(ma.Schema):
    """The members of a problem document."""

    type = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    status = ma.fields.Integer(required=True)
    detail = ma.fields.String(required=True)
    instance = ma.fields.String()
    request_id = ma.fields.String()


class RleSchema(ma.Schema):
    """A mask in COCO's compressed run-length encoding."""

    size = ma.fields.List(
        ma.fields.Integer(), required=True, metadata={"description": "height, width in px"}
    )
    counts = ma.fields.String(required=True)


class InstanceSchema(ma.Schema):
    """One crack; lengths in px of the photo."""

    score = ma.fields.Float(required=True, validate=ma.validate.Range(0, 1))
    bbox = ma.fields.List(
        ma.fields.Integer(), required=True, metadata={"description": "x, y, width, height in px"}
    )
    area = ma.fields.Integer(required=True)
    length_px = ma.fields.Float(required=True)
    mean_width_px = ma.fields.Float(required=True)
    max_width_px = ma.fields.Float(required=True)
    orientation_deg = ma.fields.Float(required=True)
    segmentation = ma.fields.Nested(RleSchema, required=True)


class PredictionSchema(ma.Schema):
    """The JSON answer of ``POST /predict``."""

    file_name = ma.fields.String(required=True)
    height = ma.fields.Integer(required=True)
    width = ma.fields.Integer(required=True)
    threshold = ma.fields.Float(required=True)
    percent_masked = ma.fields.Float(required=True, validate=ma.validate.Range(0, 100))
    percent_unmasked = ma.fields.Float(required=True, validate=ma.validate.Range(0, 100))
    percent_masked_low = ma.fields.Float(validate=ma.validate.Range(0, 100))
    percent_masked_high = ma.fields.Float(validate=ma.validate.Range(0, 100))
    instances = ma.fields.List(ma.fields.Nested(InstanceSchema), required=True)
    overlay = ma.fields.String(metadata={"description": "data: URL of the drawn photo, PNG"})


class StateSchema(ma.Schema):
    """The answer of the health routes."""

    status = ma.fields.String(required=True)


PREDICT_HEADERS: dict[str, Any] = {
    "X-Crack-Percent-Masked": {
        "description": "share of the photo's pixels that is crack, x 100",
        "schema": {"type": "number", "minimum": 0, "maximum": 100},
    },
    "X-Crack-Percent-Unmasked": {
        "description": "the rest; the two sum to 100",
        "schema": {"type": "number", "minimum": 0, "maximum": 100},
    },
    "X-Crack-Percent-Low": {
        "description": "lower end of the calibrated 90 % interval of the percentage",
        "schema": {"type": "number", "minimum": 0, "maximum": 100},
    },
    "X-Crack-Percent-High": {
        "description": "its upper end",
        "schema": {"type": "number", "minimum": 0, "maximum": 100},
    },
    "X-Crack-Count": {
        "description": "number of cracks",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Server-Timing": {"description": "milliseconds by stage", "schema": {"type": "string"}},
}
