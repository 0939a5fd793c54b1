"""Uploads: from an HTTP request to its options and a photo; the rest gets the right status."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import marshmallow as ma
import numpy as np
from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import (
    BadRequest,
    RequestEntityTooLarge,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from crack_data.photos import PhotoError, decode_photo

from .answers import MEDIA_TYPES

# The longest side that a JPEG can have.
MAX_SIDE = 65_500
FIELDS = ("image", "file", "file1")

_STATUS_OF = {
    "not_a_photo": UnsupportedMediaType,
    "corrupt": UnprocessableEntity,
    "too_large": RequestEntityTooLarge,
}
# Decoding takes 8 bytes a pixel, what comes of it 3: a few at once bound the memory.
_DECODING = threading.BoundedSemaphore(2)
_BINARY = {"type": "string", "format": "binary"}


class PredictOptions(ma.Schema):
    """The options of ``POST /predict``: query parameters, or fields of the form."""

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


REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "The photo: JPEG, PNG, WebP, TIFF, BMP, GIF or PNM.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "description": "one of the fields image, file and file1 holds the photo; the "
                "options may stand in fields instead of the query",
                "properties": {
                    **dict.fromkeys(FIELDS, _BINARY),
                    "format": {"type": "string", "enum": list(MEDIA_TYPES)},
                    "threshold": {"type": "number", "minimum": 0, "maximum": 1},
                    "overlay": {"type": "boolean"},
                },
                "oneOf": [{"required": [name]} for name in FIELDS],
                "additionalProperties": False,
            }
        },
        "image/*": {"schema": _BINARY},
    },
}


@dataclass(frozen=True)
class Upload:
    """A photo as it came in: its file's bytes, the name the client gave it, and the options."""

    name: str
    data: bytes
    options: dict[str, Any]


class MemoryRequest(Request):
    """A request whose multipart files stay in memory: nothing is written to disk."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def read_upload(request: Request) -> Upload:
    """Find photo and options: a multipart file field, or a raw ``image/*`` body and the query.

    Raises:
        BadRequest: no photo, more than one, an empty one, or an option that makes no sense.
        UnsupportedMediaType: the body is neither multipart nor an image, or is compressed.
        RequestEntityTooLarge: the body exceeds the app's ``MAX_CONTENT_LENGTH``, or the form's
            texts exceed ``MAX_FORM_MEMORY_SIZE``.
    """
    query = _load_options("query parameter", request.args.items(multi=True))
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the photo without Content-Encoding")
    try:
        upload = _find_photo(request, query)
    except RequestEntityTooLarge as error:
        raise RequestEntityTooLarge(_limit_sentence(request)) from error
    if not upload.data:
        raise BadRequest("the photo is empty: 0 bytes were sent")
    return upload


def _load_options(
    kind: str, pairs: Iterable[tuple[str, str]], known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Check options; each may be given once, be it in the query or in the form (``known``)."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given or name in (known or {}):
            raise BadRequest(f"{kind} {name!r}: the option is given twice")
        given[name] = value
    try:
        # Unknown ones raise: a misspelt threshold must not be answered as if it had been obeyed.
        return dict(PredictOptions(partial=True).load(given, unknown=ma.RAISE)) | (known or {})
    except ma.ValidationError as error:
        problems = error.normalized_messages().items()
        sentence = "; ".join(f"{kind} {name!r}: {' '.join(why)}" for name, why in problems)
        raise BadRequest(sentence) from error


def _find_photo(request: Request, query: dict[str, Any]) -> Upload:
    if request.mimetype == "multipart/form-data":
        files = list(request.files.items(multi=True))
        options = _load_options("form field", request.form.items(multi=True), query)
        return _read_file(files, options)
    if request.mimetype.startswith("image/"):
        return Upload("photo", request.get_data(cache=False), query)
    if not request.content_length:
        raise BadRequest("no photo was sent: the request has no body")
    sent = f"the body is {request.mimetype}" if request.mimetype else "no Content-Type was sent"
    raise UnsupportedMediaType(
        f"{sent}; post a photo as multipart/form-data in the field 'image', "
        "or as the body itself with its image/* Content-Type"
    )


def _read_file(files: list[tuple[str, FileStorage]], options: dict[str, Any]) -> Upload:
    unknown = [name for name, _ in files if name not in FIELDS]
    if unknown:
        raise BadRequest(f"a file came in the field {unknown[0]!r}; send it in the field 'image'")
    if not files:
        raise BadRequest("no photo was sent: the form needs a file in the field 'image'")
    if len(files) > 1:
        raise BadRequest(f"{len(files)} files were sent; send one photo in a request")
    file = files[0][1]
    return Upload(file.filename or "photo", file.read(), options)


def _limit_sentence(request: Request) -> str:
    limit, size = request.max_content_length or 0, request.content_length
    if size is None or size > limit:
        sent = "" if size is None else f" of {size} bytes"
        return f"the request's body{sent} is larger than the limit of {limit} bytes (--max-bytes)"
    return (
        f"the form's texts are larger than the limit of {request.max_form_memory_size} bytes, or "
        f"it has more than {request.max_form_parts} fields"
    )


def decode(upload: Upload, max_pixels: int) -> np.ndarray:
    """Decode an upload to an upright BGR uint8 photo, shape (height, width, 3).

    Raises:
        UnsupportedMediaType: it is not a photo.
        UnprocessableEntity: it is a truncated or corrupt one.
        RequestEntityTooLarge: its header declares more than ``max_pixels``, or it is too long to
            be drawn on and written as a JPEG.
    """
    try:
        with _DECODING:
            image = decode_photo(upload.data, max_pixels)
    except PhotoError as error:
        raise _STATUS_OF[error.kind](str(error)) from error
    if max(image.shape) > MAX_SIDE:
        raise RequestEntityTooLarge(
            f"the photo is {image.shape[1]} x {image.shape[0]} pixels; the limit of a side is "
            f"{MAX_SIDE}"
        )
    return image
