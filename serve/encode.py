"""Encode: from a prediction to the body of the answer, in the form the client asked for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from flask import Request, json
from werkzeug.exceptions import NotAcceptable

from crack_data.inference.drawing import draw_prediction
from crack_data.inference.prediction import CrackPrediction
from crack_data.inference.results import to_json
from crack_data.png import encode_png

# The forms of an answer and their media types; in order of preference when the client has none.
MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "json": "application/json",
    "mask": "image/png",
}
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Answer:
    """A prediction together with the photo and the name it belongs to."""

    name: str
    image: np.ndarray
    prediction: CrackPrediction

    def encode(self, form: str, overlay: bool) -> bytes:
        """Write the answer.

        Args:
            form: a key of `MEDIA_TYPES`.
            overlay: put the drawn photo into the JSON as well.
        """
        if form == "json":
            return json.dumps(self._document(overlay)).encode()
        if form == "mask":
            return encode_png(self.prediction.mask.view(np.uint8) * np.uint8(255))
        return encode_png(self._drawn()) if form == "png" else _jpeg(self._drawn())

    def headers(self) -> dict[str, str]:
        """The headers with the percentages, which sum to 100, and the number of instances."""
        masked = round(self.prediction.percent_masked, 4)
        return {
            "X-Crack-Percent-Masked": f"{masked:.4f}",
            "X-Crack-Percent-Unmasked": f"{100 - masked:.4f}",
            "X-Crack-Count": str(len(self.prediction.instances)),
        }

    def _document(self, overlay: bool) -> dict[str, Any]:
        document = to_json(self.prediction, self.name)
        if overlay:
            picture = base64.b64encode(encode_png(self._drawn())).decode("ascii")
            document["overlay"] = f"data:image/png;base64,{picture}"
        return document

    def _drawn(self) -> np.ndarray:
        return draw_prediction(self.image, self.prediction)


def choose_form(request: Request, wanted: str | None) -> str:
    """Decide on the form of the answer: the query's wish, else the ``Accept`` header's.

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


def _jpeg(pixels: np.ndarray) -> bytes:
    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not ok:
        raise RuntimeError(f"OpenCV could not write a JPEG of shape {pixels.shape}")
    return data.tobytes()
