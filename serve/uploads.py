"""Decode: from an HTTP request to a photo, refusing everything else with the right status."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

import numpy as np
from flask import Request
from werkzeug.exceptions import (
    BadRequest,
    RequestEntityTooLarge,
    UnprocessableEntity,
    UnsupportedMediaType,
)
from werkzeug.formparser import FormDataParser

from crack_data.photos import PhotoError, decode_photo

from .problems import body_too_large

# The longest side that a JPEG can have.
MAX_SIDE = 65_500
FIELDS = ("image", "file", "file1")

_STATUS_OF = {
    "not_a_photo": UnsupportedMediaType,
    "corrupt": UnprocessableEntity,
    "too_large": RequestEntityTooLarge,
}


@dataclass(frozen=True)
class Upload:
    """A photo as it came in: its file's bytes and the name the client gave it."""

    name: str
    data: bytes


class MemoryRequest(Request):
    """A request whose multipart files stay in memory: nothing is written to disk."""

    def make_form_data_parser(self) -> FormDataParser:
        """Build the form parser, with the request's limits and in-memory files."""
        return self.form_data_parser_class(
            stream_factory=_memory_file,
            max_form_memory_size=self.max_form_memory_size,
            max_content_length=self.max_content_length,
            max_form_parts=self.max_form_parts,
            cls=self.parameter_storage_class,
        )


def _memory_file(
    total_content_length: int | None,
    content_type: str | None,
    filename: str | None,
    content_length: int | None = None,
) -> IO[bytes]:
    return io.BytesIO()


def read_upload(request: Request) -> Upload:
    """Find the photo in a request: a multipart file field, or a raw ``image/*`` body.

    Raises:
        BadRequest: there is no such field, or it or the body is empty.
        UnsupportedMediaType: the body is neither multipart nor an image, or is compressed.
        RequestEntityTooLarge: the body exceeds the app's ``MAX_CONTENT_LENGTH``.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the photo without Content-Encoding")
    try:
        upload = _find_photo(request)
    except RequestEntityTooLarge as error:
        limit = request.max_content_length or 0
        raise RequestEntityTooLarge(body_too_large(limit)) from error
    if not upload.data:
        raise BadRequest("the photo is empty: 0 bytes were sent")
    return upload


def _find_photo(request: Request) -> Upload:
    if request.mimetype == "multipart/form-data":
        return _read_multipart(request)
    if request.mimetype.startswith("image/"):
        return Upload("photo", request.get_data(cache=False))
    if not request.content_length:
        raise BadRequest("no photo was sent: the request has no body")
    sent = f"the body is {request.mimetype}" if request.mimetype else "no Content-Type was sent"
    raise UnsupportedMediaType(
        f"{sent}; post a photo as multipart/form-data in the field 'image', "
        "or as the body itself with its image/* Content-Type"
    )


def _read_multipart(request: Request) -> Upload:
    for field in FIELDS:
        file = request.files.get(field)
        if file is not None:
            return Upload(file.filename or "photo", file.read())
    raise BadRequest("no photo was sent: the form needs a file in the field 'image'")


def decode(upload: Upload, max_pixels: int) -> np.ndarray:
    """Decode an upload to an upright BGR uint8 photo, shape (height, width, 3).

    Raises:
        UnsupportedMediaType: it is not a photo.
        UnprocessableEntity: it is a truncated or corrupt one.
        RequestEntityTooLarge: its header declares more than ``max_pixels``, or it is too long to
            be drawn on and written as a JPEG.
    """
    try:
        image = decode_photo(upload.data, max_pixels)
    except PhotoError as error:
        raise _STATUS_OF[error.kind](str(error)) from error
    if max(image.shape) > MAX_SIDE:
        raise RequestEntityTooLarge(
            f"the photo is {image.shape[1]} x {image.shape[0]} pixels; the limit of a side is "
            f"{MAX_SIDE}"
        )
    return image
