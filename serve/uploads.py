"""Uploads: from an HTTP request to its options and a photo; the rest gets the right status."""

import io
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any

import numpy as np
from flask import Request, abort
from werkzeug.exceptions import RequestEntityTooLarge

from crack_data.photos import PhotoError, decode_photo

from .answers import MEDIA_TYPES
from .worker import Turn

FIELDS = ("image", "file", "file1")
_CHOICES: dict[str, dict[str, Any]] = {
    "format": {name: name for name in MEDIA_TYPES},
    "overlay": {"true": True, "1": True, "false": False, "0": False},
}
_STATUS_OF = {"not_a_photo": 415, "corrupt": 422, "too_large": 413}
# Decoding takes 5 to 12 bytes a pixel, what comes of it 3; and it is far quicker than predicting.
_DECODING = threading.Lock()


class MemoryRequest(Request):
    """A request whose multipart files stay in memory: nothing is written to disk."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BytesIO()


def read_upload(request: Request) -> tuple[str, bytes, dict[str, Any]]:
    """The photo's name, its bytes, and all options; an `HTTPException` says what is wrong."""
    options: dict[str, Any] = {}
    _read_options("query parameter", request.args.items(multi=True), options)
    if request.content_length == 0:
        abort(400, "no photo was sent: the request has no body")
    try:
        return *_find_photo(request, options), options
    except RequestEntityTooLarge as error:
        limit = request.max_content_length or 0
        what = (
            f"the form's texts are larger than the limit of {request.max_form_memory_size} bytes, "
            f"or it has more than {request.max_form_parts} fields"
        )
        if request.content_length is None or request.content_length > limit:
            what = f"the request's body is larger than the limit of {limit} bytes (--max-bytes)"
        raise RequestEntityTooLarge(what) from error


def _read_options(kind: str, pairs: Iterable[tuple[str, str]], options: dict[str, Any]) -> None:
    """Add checked options, each once; unknown ones, which may be misspelt, are refused."""
    for name, text in pairs:
        try:
            if name in options:
                raise ValueError("the option is given twice")
            options[name] = _option(name, text)
        except ValueError as error:
            abort(400, f"{kind} {name!r} is {text[:100]!r}: {error}")


def _option(name: str, text: str) -> str | float | bool:
    if name in _CHOICES:
        if text not in _CHOICES[name]:
            raise ValueError(f"give one of {', '.join(_CHOICES[name])}")
        return _CHOICES[name][text]
    if name in FIELDS:
        raise ValueError(f"the photo must be a file: -F {name}=@photo.jpg")
    if name != "threshold":
        raise ValueError(f"the options are threshold, {', '.join(_CHOICES)}")
    with suppress(ValueError):
        # To Python, 0_1 is 1, and digits may be those of any script.
        if text.isascii() and "_" not in text and 0.0 <= float(text) <= 1.0:
            return float(text)
    raise ValueError("give a number from 0 to 1")


def _find_photo(request: Request, options: dict[str, Any]) -> tuple[str, bytes]:
    if request.mimetype.startswith("image/"):
        data = request.get_data(cache=False)
        # Under other servers than ours, chunks end at the limit; to read on is refused there.
        if request.content_length is None:
            request.stream.read(1)
        return "photo", data
    if request.mimetype != "multipart/form-data":
        sent = f"the body is {request.mimetype}" if request.mimetype else "no Content-Type was sent"
        abort(
            415,
            f"{sent}; post a photo as multipart/form-data in the field 'image', "
            "or as the body itself with its image/* Content-Type",
        )
    files = list(request.files.items(multi=True))
    _read_options("form field", request.form.items(multi=True), options)
    if not files and not request.form:
        abort(400, "the form cannot be read: it is empty or cut off, or a name is not UTF-8")
    if len(files) != 1 or files[0][0] not in FIELDS:
        names = [repr(name) if name else "a field without a name" for name, _ in files]
        sent = ", ".join(names) or "no field"
        abort(400, f"send one photo, in the field 'image'; files came in {sent}")
    file = files[0][1]
    return file.filename or "photo", file.read()


def decode(data: bytes, max_pixels: int, turn: Turn) -> np.ndarray:
    """A file's photo, upright BGR uint8 (H, W, 3); one is decoded at a time, in its turn."""
    try:
        with turn.hold(_DECODING):
            image = decode_photo(data, max_pixels)
    except PhotoError as error:
        abort(_STATUS_OF[error.kind], str(error))
    height, width = image.shape[:2]
    if max(height, width) > 65_500:  # the longest side that a JPEG can have
        abort(413, f"the photo is {width} x {height} pixels; the limit of a side is 65500")
    return image
