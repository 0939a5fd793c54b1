"""The shapes of requests and answers, from which the OpenAPI description is generated."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from .encode import MEDIA_TYPES
from .uploads import FIELDS


class PredictQuery(ma.Schema):
    """The query parameters of ``POST /predict``."""

    format = ma.fields.String(
        validate=ma.validate.OneOf(tuple(MEDIA_TYPES)),
        metadata={"description": "form of the answer; without it, the Accept header decides"},
    )
    threshold = ma.fields.Float(
        validate=ma.validate.Range(0, 1),
        metadata={"description": "a pixel is crack where its probability exceeds this"},
    )
    overlay = ma.fields.Boolean(
        load_default=False,
        truthy={"true", "1"},
        falsy={"false", "0"},
        metadata={"description": "put the drawn photo, base64, into the JSON answer"},
    )


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
    instances = ma.fields.List(ma.fields.Nested(InstanceSchema), required=True)
    overlay = ma.fields.String(metadata={"description": "data: URL of the drawn photo, PNG"})


class StateSchema(ma.Schema):
    """The answer of the health routes."""

    status = ma.fields.String(required=True)


_BINARY = {"type": "string", "format": "binary"}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "The photo: JPEG, PNG, WebP, TIFF, BMP, GIF or PNM.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "description": "one of the fields holds the file",
                "properties": dict.fromkeys(FIELDS, _BINARY),
                "anyOf": [{"required": [name]} for name in FIELDS],
            }
        },
        "image/*": {"schema": _BINARY},
    },
}

PICTURE = _BINARY

PREDICT_HEADERS: dict[str, Any] = {
    "X-Crack-Percent-Masked": {
        "description": "share of the photo's pixels that is crack, x 100",
        "schema": {"type": "number", "minimum": 0, "maximum": 100},
    },
    "X-Crack-Percent-Unmasked": {
        "description": "the rest; the two sum to 100",
        "schema": {"type": "number", "minimum": 0, "maximum": 100},
    },
    "X-Crack-Count": {
        "description": "number of cracks",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Server-Timing": {
        "description": "milliseconds by stage",
        "schema": {"type": "string"},
    },
}
