"""Answers: a prediction in the form asked for, and a problem document for each error."""

import base64
from collections.abc import Callable

import cv2
import numpy as np
from flask import Request, g, json, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotAcceptable
from werkzeug.wrappers import Response

from crack_data.inference.drawing import draw_prediction, encode_png
from crack_data.inference.measuring import measure
from crack_data.inference.prediction import CrackPrediction
from crack_data.inference.results import to_json

# The forms of an answer and their media types.
MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "json": "application/json",
    "mask": "image/png",
}
# What the Accept header can choose; in order of preference when the client has none.
_ACCEPTABLE = {"image/png": "png", "image/jpeg": "jpeg", "application/json": "json"}


def choose_form(request: Request) -> str:
    """The form that the ``Accept`` header asks for; `NotAcceptable` where there is none."""
    accepted = request.accept_mimetypes
    best = accepted.best_match(_ACCEPTABLE) if accepted else "image/png"
    if best is None:
        raise NotAcceptable(f"Accept is {accepted}; the answer can be {', '.join(_ACCEPTABLE)}")
    return _ACCEPTABLE[best]


def encode_answer(
    image: np.ndarray,
    prediction: CrackPrediction,
    name: str,
    form: str,
    overlay: bool,
    before_crack: Callable[[], None],
) -> bytes:
    """An answer's body in a form of `MEDIA_TYPES`; ``overlay``: the JSON holds the drawn photo.

    What ``before_crack``, called before each is measured, raises ends it.
    """
    if form == "mask":
        return encode_png(prediction.mask)
    if form == "json":
        measured = []
        for instance in prediction.instances:
            before_crack()
            measured.append(measure(instance))
        document = to_json(prediction, name, measured)
        if overlay:
            # In one expression: each step of a large photo takes a hundred megabytes.
            document["overlay"] = "data:image/png;base64," + base64.b64encode(
                encode_png(draw_prediction(image, prediction))
            ).decode("ascii")
        return json.dumps(document).encode()
    drawn = draw_prediction(image, prediction)
    if form == "png":
        return encode_png(drawn)
    return cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def percent_headers(prediction: CrackPrediction) -> dict[str, str]:
    """The headers with the percentages, which sum to 100, and the number of instances."""
    masked = round(prediction.percent_masked, 4)
    shares = {"Masked": masked, "Unmasked": 100 - masked}
    if prediction.percent_range is not None:
        shares["Low"], shares["High"] = prediction.percent_range
    headers = {f"X-Crack-Percent-{name}": f"{value:.4f}" for name, value in shares.items()}
    return headers | {"X-Crack-Count": str(len(prediction.instances))}


def problem_response(error: HTTPException) -> Response:
    """Turn an HTTP exception into its problem document (RFC 9457); a redirect passes unchanged."""
    response = error.get_response(request.environ)
    if not isinstance(response, Response) or response.status_code < 400:
        return response
    detail = " ".join((error.description or error.name).split())
    if isinstance(error, MethodNotAllowed) and request.path == "/predict":
        detail = (
            f"/predict takes photos by POST, not {request.method}; for example "
            f"curl -F image=@photo.jpg {request.base_url} -o out.png"
        )
    document = {
        "type": "about:blank",  # so the title is the status phrase
        "title": error.name,
        "status": response.status_code,
        "detail": detail,
        "instance": request.path,
        "request_id": g.get("request_id", ""),
    }
    response.set_data(json.dumps(document))
    response.content_type = "application/problem+json"
    return response
