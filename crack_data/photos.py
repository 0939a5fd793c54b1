"""Decode any photo into what the model takes: BGR, 8 bits, upright."""

from __future__ import annotations

import io
import os
import warnings

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from . import storage
from .errors import CrackError

# Formats that cameras and scanners write. Pillow's other plugins, some of which start external
# programs, are never tried.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")

_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"GIF8", b"P5", b"P6",
)  # fmt: skip

# Below Pillow's own limit for decompression bombs (2 x 89,478,485).
MAX_PIXELS = 178_000_000


_ORIENTATION = 0x0112
# Rows converted at a time, so that a huge photo is held once as decoded and once as wanted.
_BAND = 512


class PhotoError(CrackError):
    """A photo that cannot be used.

    ``kind`` is "not_a_photo" (no known format), "corrupt" (truncated or damaged) or "too_large".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_photo(path: str | os.PathLike[str], max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read a photo from a file.

    Args:
        path: the file, a path or a URL that fsspec reads.
        max_pixels: refuse photos of more pixels; None: no limit but Pillow's.

    Returns:
        BGR uint8 (H, W, 3), upright.

    Raises:
        PhotoError: as `decode_photo`, the file named.
        CrackError: the file cannot be read.
    """
    data = storage.read_bytes(os.fspath(path))
    try:
        return decode_photo(data, max_pixels)
    except PhotoError as error:
        raise PhotoError(error.kind, f"photo {path}: {error}") from error


def decode_photo(data: bytes, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of a photo file; of an animation, the first frame.

    Args:
        data: content of a file in one of `FORMATS`: grey, RGB, CMYK or palette, 8 or 16 bits,
            with or without transparency (which is dropped).
        max_pixels: refuse photos of more pixels, by the header, before decoding.

    Returns:
        BGR uint8 (H, W, 3), turned upright by the EXIF orientation.

    Raises:
        PhotoError: not a photo, too large, or corrupt.
    """
    with warnings.catch_warnings():
        # The size is checked here; damaged metadata is no reason to refuse a readable photo.
        warnings.simplefilter("ignore")
        image = _open(data)
        _check_size(image, max_pixels)
        try:
            return _decode(image)
        except MemoryError:
            raise
        except Exception as error:  # each of Pillow's decoders raises its own types
            raise PhotoError("corrupt", f"the photo is corrupt or cut off ({error})") from error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise PhotoError("corrupt", "the photo is corrupt or cut off in its header") from error
        raise PhotoError(
            "not_a_photo", f"not a photo in a known format ({', '.join(FORMATS)})"
        ) from error
    except Image.DecompressionBombError as error:
        raise PhotoError("too_large", f"the photo declares too many pixels ({error})") from error
    except Exception as error:  # a known signature with a damaged header
        raise PhotoError("corrupt", f"the photo's header is corrupt ({error})") from error


def _check_size(image: Image.Image, max_pixels: int | None) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise PhotoError("corrupt", "the photo's header declares no pixels")
    if max_pixels is not None and pixels > max_pixels:
        raise PhotoError(
            "too_large",
            f"the photo has {image.width} x {image.height} pixels; the limit is {max_pixels}",
        )


def _decode(image: Image.Image) -> np.ndarray:
    image.load()
    # Only now: of a TIFF, loading turns the image upright and drops the tag.
    orientation = image.getexif().get(_ORIENTATION, 1)
    if image.mode in ("I;16", "I;16L", "I;16B", "I", "F"):
        pixels = cv2.cvtColor(_to_8_bits(np.asarray(image)), cv2.COLOR_GRAY2BGR)
    else:
        pixels = _to_bgr(image)
    image.close()
    return _upright(pixels, orientation)


def _to_bgr(image: Image.Image) -> np.ndarray:
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top in range(0, image.height, _BAND):
        band = image
        if image.height > _BAND:
            band = image.crop((0, top, image.width, min(image.height, top + _BAND)))
        if band.mode in ("P", "PA"):
            band = band.convert("RGBA")
        if band.mode != "RGB":
            band = band.convert("RGB")
        cv2.cvtColor(np.asarray(band), cv2.COLOR_RGB2BGR, pixels[top : top + band.height])
    return pixels


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation: 5 to 8 have rows and columns exchanged."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _to_8_bits(grey: np.ndarray) -> np.ndarray:
    """16-bit samples to 8 bits; floats in [0, 1] or, failing that, in 16-bit units."""
    if grey.dtype.kind == "f":
        unit = 255.0 if np.nanmax(grey) <= 1.0 else 255.0 / 65535.0
        return np.nan_to_num(np.rint(grey * unit)).clip(0, 255).astype(np.uint8)
    return (grey.clip(0, 65535) >> 8).astype(np.uint8)
