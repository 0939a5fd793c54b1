"""The one reader of photos: any usual file becomes BGR, 8 bits, upright.

Memory: a photo is held once as its file, once as decoded (at most 8 bytes for each pixel of the
limit, else it is refused) and once as BGR; the rest works on bands of rows.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .errors import CrackError
from .storage import HAS_HEIF, PHOTO_SUFFIXES, read_bytes

__all__ = ["MAX_PIXELS", "PHOTO_SUFFIXES", "PhotoError", "decode_photo", "probe_photo",
           "read_photo"]  # fmt: skip

# The only formats that are tried; Pillow's other plugins, some of which start programs, are not.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
if HAS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)

_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"GIF8", b"P5", b"P6",
)  # fmt: skip

# Below Pillow's own limit for decompression bombs (2 x 89,478,485).
MAX_PIXELS = 178_000_000
# Decoding time grows with the scans of a JPEG; a progressive photo has about ten.
MAX_SCANS = 100
# Bytes that decoding may take for each pixel of the limit.
_BYTES_PER_PIXEL = 8
# Of the photo to the grey version that `probe_photo` gives.
PROBE_SCALE = 4

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262  # 0: white is zero
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BAND = 512  # rows converted at a time
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class PhotoError(CrackError):
    """A photo that cannot be used.

    ``kind`` is "not_a_photo" (no known format), "corrupt" (truncated or damaged) or "too_large"
    (pixels, bytes of memory, or scans of a JPEG).
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
    data = read_bytes(os.fspath(path))
    with _naming(path):
        return decode_photo(data, max_pixels)


def decode_photo(data: bytes, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of a photo file; of an animation, the first frame.

    Args:
        data: content of a file in one of `FORMATS`: grey, RGB, CMYK or palette, with or without
            transparency (which is dropped); samples of more than 8 bits and floats are scaled by
            their own range, see `to_8_bits`.
        max_pixels: refuse photos of more pixels, by the header, before decoding.

    Returns:
        BGR uint8 (H, W, 3), turned upright by the EXIF orientation.

    Raises:
        PhotoError: not a photo, too large, or corrupt.
    """
    with _decoding():
        image = _open(data, max_pixels)
        if image is None:
            return _bgr_of_samples(*_read_tiff(data, max_pixels))
        wide = _has_wide_colour(image, data)
        image.load()  # the whole file is checked, and a TIFF is turned upright
        orientation = image.getexif().get(_ORIENTATION, 1)
        if wide:
            format_ = image.format
            del image
            if format_ == "TIFF":
                return _bgr_of_samples(*_read_tiff(data, max_pixels))
            return _bgr_of_samples(_read_by_opencv(data), orientation)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            samples = np.asarray(image)
            if image.mode != "I" and _white_is_zero(image):
                samples = samples.max() - samples
            return _bgr_of_samples(samples, orientation)
        pixels = _bgr_of(image)
        del image
        return _upright(pixels, orientation)


def probe_photo(path: str | os.PathLike[str]) -> tuple[int, int, npt.NDArray[np.uint8]]:
    """Decode a photo to its end, as cheaply as its format allows.

    Returns:
        Width and height in px, upright, and the upright photo in grey at a quarter of that size,
        uint8 ((H+3)//4, (W+3)//4).

    Raises:
        CrackError: as `read_photo`.
    """
    data = read_bytes(os.fspath(path))
    with _naming(path):
        if data.startswith(b"\xff\xd8\xff"):
            return _probe_jpeg(data)
        photo = decode_photo(data)
    height, width = photo.shape[:2]
    grey = Image.fromarray(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY))
    return width, height, _quarter(grey, width, height)


def to_8_bits(samples: np.ndarray) -> npt.NDArray[np.uint8]:
    """Scale samples of any type to 8 bits by the range that they use.

    Full scale is the smallest power of two (less one, for values above 1) that holds the largest
    sample: a 12-bit camera's 16-bit file comes out as its 8-bit twin would, numbers that fit into
    8 bits stay as they are, and floats may run to 1, to 255 or to anything. A few outliers four
    times above all others are clipped. Where all values lie within a sixteenth of that scale
    (thermography), or some are below zero, their own range is spread over 0 to 255. NaN becomes 0.

    Args:
        samples: (H, W) or (H, W, C), integers or floats.
    """
    base, scale = _range_of(samples)
    scaled = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), _BAND):
        band = (samples[top : top + _BAND].astype(np.float32) - base) * scale
        np.nan_to_num(band, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        scaled[top : top + _BAND] = np.rint(band).clip(0, 255)
    return scaled


def _range_of(samples: np.ndarray) -> tuple[float, float]:
    """What to subtract from the samples, and the factor to multiply the rest by."""
    step = max(1, math.isqrt(samples.size // 1_000_000))
    some = samples[::step, ::step].astype(np.float64).ravel()
    some = some[np.isfinite(some)]
    if not some.size:
        return 0.0, 1.0
    low, high = np.percentile(some, (0.1, 99.9))
    top = float(some.max())
    if top > 4 * high > 0:
        top = float(high)
    least = 255.0 if samples.dtype.kind in "ui" or top > 16 else 2.0**-20
    full = 2.0 ** math.ceil(math.log2(max(top / 1.05, least / 1.05)))
    full -= full > 1
    if low < 0 or (0 < high - low < full / 16 and full > 255):
        return float(low), 255.0 / max(float(high - low), 1e-12)
    return 0.0, 255.0 / full


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except PhotoError as error:
        raise PhotoError(error.kind, f"photo {path}: {error}") from error


@contextmanager
def _decoding() -> Iterator[None]:
    with warnings.catch_warnings():
        # The size is checked here; damaged metadata is no reason to refuse a readable photo.
        warnings.simplefilter("ignore")
        try:
            yield
        except (PhotoError, MemoryError):
            raise
        except Exception as error:  # each decoder raises its own types
            raise PhotoError("corrupt", f"the photo is corrupt or cut off ({error})") from error


def _open(data: bytes, max_pixels: int | None) -> Image.Image | None:
    """Open a photo by its header; None: a TIFF whose samples Pillow does not know."""
    if data.startswith(b"\xff\xd8\xff"):
        _check_scans(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF):
            return None
        if data.startswith(_SIGNATURES):
            raise PhotoError("corrupt", "the photo is corrupt or cut off in its header") from error
        raise PhotoError(
            "not_a_photo", f"not a photo in a known format ({', '.join(FORMATS)})"
        ) from error
    except Image.DecompressionBombError as error:
        raise PhotoError("too_large", f"the photo declares too many pixels ({error})") from error
    except Exception as error:  # a known signature with a damaged header
        raise PhotoError("corrupt", f"the photo's header is corrupt ({error})") from error
    decoded = 16 if image.format == "WEBP" else 4  # bytes a pixel
    _check_size(image.width, image.height, decoded, max_pixels)
    return image


def _check_size(width: int, height: int, decoded: int, max_pixels: int | None) -> None:
    """Refuse a photo by its header: ``decoded`` is the bytes that a decoded pixel takes."""
    if width * height == 0:
        raise PhotoError("corrupt", "the photo's header declares no pixels")
    limit = max_pixels or 2 * MAX_PIXELS
    if width * height * max(decoded, _BYTES_PER_PIXEL) > limit * _BYTES_PER_PIXEL:
        wide = f" of {decoded} bytes" if decoded > _BYTES_PER_PIXEL else ""
        limit = limit * _BYTES_PER_PIXEL // max(decoded, _BYTES_PER_PIXEL)
        raise PhotoError(
            "too_large", f"the photo has {width} x {height} pixels{wide}; the limit is {limit}"
        )


def _check_scans(jpeg: bytes) -> None:
    scans, place = 0, 2
    while (marker := _MARKER.search(jpeg, place)) and marker[1] != b"\xd9":
        place = marker.end()
        if marker[1] == b"\xda":
            scans += 1
            end = _SCAN_END.search(jpeg, place)
            place = end.start() if end else len(jpeg)
        elif marker[1] != b"\x01" and not b"\xd0" <= marker[1] <= b"\xd8":
            place += int.from_bytes(jpeg[place : place + 2], "big")
    if scans > MAX_SCANS:
        raise PhotoError("too_large", f"the photo has {scans} JPEG scans; the limit is {MAX_SCANS}")


def _has_wide_colour(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow would cut colour samples of more than 8 bits down to their upper 8."""
    if image.mode not in ("RGB", "RGBA", "LA", "RGBX"):
        return False
    if image.format == "PNG":
        return data[24] > 8
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,)) if image.format == "TIFF" else (8,)
    return bits[0] > 8


def _white_is_zero(image: Image.Image) -> bool:
    return image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0


def _read_tiff(data: bytes, max_pixels: int | None) -> tuple[np.ndarray, int]:
    """Samples of a TIFF's first page as they are stored, (H, W) or (H, W, 3) BGR; orientation."""
    import tifffile  # only for these rare photos

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        channels, depth = page.samplesperpixel, page.bitspersample // 8
        _check_size(page.imagewidth, page.imagelength, channels * max(depth, 1), max_pixels)
        tag = page.tags.get("Orientation")
        if page.planarconfig == 1:
            if tag is not None and tag.value != 1:  # OpenCV would turn some sample types
                upright = bytearray(data)
                upright[tag.valueoffset : tag.valueoffset + 2] = (1).to_bytes(
                    2, "little" if file.byteorder == "<" else "big"
                )
                data = bytes(upright)
            samples = _read_by_opencv(data)
        else:
            samples = np.moveaxis(page.asarray(), 0, 2)[:, :, 2::-1]
        return samples, 1 if tag is None else int(tag.value)


def _read_by_opencv(data: bytes) -> np.ndarray:
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if samples is None:
        raise ValueError("its samples are of a type that cannot be read; save it with 8 bits")
    return samples


def _bgr_of_samples(samples: np.ndarray, orientation: int) -> np.ndarray:
    pixels = to_8_bits(samples)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return _upright(pixels, orientation)


def _bgr_of(image: Image.Image) -> np.ndarray:
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
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _probe_jpeg(data: bytes) -> tuple[int, int, npt.NDArray[np.uint8]]:
    with _decoding():
        image = _open(data, MAX_PIXELS)
        assert image is not None
        width, height = image.size
        # Draft takes the largest scale that is not below the size asked for.
        image.draft("L", (max(1, width // PROBE_SCALE), max(1, height // PROBE_SCALE)))
        image.load()
        orientation = image.getexif().get(_ORIENTATION, 1)
        grey = image if image.mode == "L" else image.convert("RGB").convert("L")
        quarter = _upright(_quarter(grey, width, height), orientation)
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return width, height, quarter


def _quarter(grey: Image.Image, width: int, height: int) -> npt.NDArray[np.uint8]:
    size = (-(-width // PROBE_SCALE), -(-height // PROBE_SCALE))
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.BOX)
    return np.asarray(grey)
