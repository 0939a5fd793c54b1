"""PNG files by OpenCV, which undoes their filters in a fraction of Pillow's time."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTH = 24  # where it stands in the header, which comes first; the type of colour follows
# Transparency, animation and EXIF are Pillow's to read.
_UNUSUAL = (b"tRNS", b"acTL", b"eXIf")
_EXIF_AS_TEXT = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")


def read_plain_png(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8] | None:
    """Read a PNG of grey or coloured pixels.

    Returns:
        HxW uint8 if it is grey, else HxWx3 in OpenCV's order of blue, green and red. None where
        the file is anything but whole and plain: another reader may know more of it.
    """
    with open(path, "rb") as stream:
        data = stream.read(len(_SIGNATURE))
        if data != _SIGNATURE:
            return None
        data += stream.read()
    colour = _colour_type(data)
    if colour is None:
        return None
    flags = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
    try:
        pixels: Any = cv2.imdecode(
            np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:  # larger than OpenCV takes
        return None
    return pixels


def _colour_type(data: bytes) -> int | None:
    """0 for grey, 2 for RGB, of 8 bits; None if it is another, or not whole and plain.

    Checksums are compared here since libpng, given a damaged file, writes to the terminal.
    """
    if data[12:16] != b"IHDR":
        return None
    place, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        if place + 12 > len(data):
            return None
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if kind in _UNUSUAL or data.startswith(_EXIF_AS_TEXT, place + 8):
            return None
        if data[end : end + 4] != _checksum(data, place + 4, end):
            return None
        place = end + 4
    depth, colour = data[_DEPTH : _DEPTH + 2]
    return colour if depth == 8 and colour in (0, 2) else None


def _checksum(data: bytes, start: int, end: int) -> bytes:
    return zlib.crc32(memoryview(data)[start:end]).to_bytes(4, "big")
