"""The one reader of photos: any usual file becomes BGR, 8 bits, upright.

Memory, measured: beside the file, at most 8 bytes for each pixel of the limit, whatever the format,
but 10 for a progressive JPEG whose colours are not subsampled, and 12 where it is CMYK.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import cv2
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from .errors import CrackError
from .samples import BAND, to_8_bits
from .storage import HAS_HEIF, AnyPath, open_bytes

# The only formats that are tried; Pillow's other plugins, some of which start programs, are not.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
if HAS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)

# A `PhotoError` says what is wrong; that they do not know each tag of a GeoTIFF is nothing wrong.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
tifffile.logger().disabled = True
_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIGNATURES = (_JPEG, b"\x89PNG", b"RIFF", *_TIFF, b"BM", b"GIF8", b"P5", b"P6")

MAX_PIXELS = 178_000_000  # below Pillow's own limit for decompression bombs (2 x 89,478,485)
MAX_SCANS = 100  # of a JPEG: decoding time grows with them; a progressive photo has about ten
PROBE_SCALE = 4  # of the photo to the grey version that `probe_photo` gives

_ORIENTATION, _PHOTOMETRIC, _NODATA = 274, 262, 42113  # tags of EXIF, TIFF and GDAL
_TURNED = (5, 6, 7, 8)  # orientations that have rows and columns exchanged
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class PhotoError(CrackError):
    """A photo that cannot be used: ``kind`` is "not_a_photo", "corrupt" or "too_large"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_photo(path: AnyPath) -> np.ndarray:
    """Read a photo from a path or a URL that fsspec reads, as `decode_photo` does."""
    data = _read(path)
    with _decoding(path):
        return decode_photo(data)


def decode_photo(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a photo file: BGR uint8 (H, W, 3), turned upright by the EXIF orientation.

    Of an animation, the first frame, without transparency; `to_8_bits` scales other samples. A
    `PhotoError` where it is none of `FORMATS`, corrupt, or, by its header, over ``max_pixels``.
    """
    with _decoding(limit=max_pixels):
        if (header := _tiff_header(io.BytesIO(data), max_pixels)) and header[3]:
            return _upright(to_8_bits(_read_tiff(data)), header[2])
        if data.startswith(_JPEG):
            _check_scans(data)
        image, is_wide = _open(io.BytesIO(data), max_pixels)
        if is_wide:
            pixels = to_8_bits(_read_by_opencv(data))
        else:
            image.load()
            pixels = np.empty((image.height, image.width, 3), np.uint8)
            for top in range(0, image.height, BAND):
                bottom = min(image.height, top + BAND)
                band = image.crop((0, top, image.width, bottom)).convert("RGB")
                cv2.cvtColor(np.asarray(band), cv2.COLOR_RGB2BGR, pixels[top:bottom])
        # Only now: of a TIFF, loading turns the image upright and drops the tag.
        orientation = _orientation(image)
        del image
        return _upright(pixels, orientation)


def probe_photo(path: AnyPath) -> tuple[int, int, np.ndarray]:
    """Decode a photo to its end, as cheaply as its format allows; errors as of `read_photo`.

    Returns width, height, px, and the photo in grey, uint8 ((H+3)//4, (W+3)//4), all upright.
    """
    data = _read(path)
    with _decoding(path):
        if data.startswith(_JPEG):
            _check_scans(data)
            grey, _ = _open(io.BytesIO(data), MAX_PIXELS)
            (width, height), orientation = grey.size, _orientation(grey)
            # Draft takes the largest scale that is not below the size asked for.
            grey.draft("L", (max(1, width // PROBE_SCALE), max(1, height // PROBE_SCALE)))
            if grey.mode != "L":
                grey = grey.convert("RGB").convert("L")
        else:
            photo = decode_photo(data)
            grey, orientation = Image.fromarray(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)), 1
            width, height = grey.size
        size = (-(-width // PROBE_SCALE), -(-height // PROBE_SCALE))
        quarter = _upright(np.asarray(grey.resize(size, Image.Resampling.BOX)), orientation)
        return (height, width, quarter) if orientation in _TURNED else (width, height, quarter)


def photo_size(path: AnyPath) -> tuple[int, int]:
    """Width and height of a photo in px, upright, by its header: no more is read."""
    width, height, orientation = read_header(path)
    return (height, width) if orientation in _TURNED else (width, height)


def read_header(path: AnyPath) -> tuple[int, int, int]:
    """Width and height of a photo in px as stored, and its EXIF orientation (1: upright)."""
    with open_bytes(path) as stream, _decoding(path):
        if header := _tiff_header(stream, MAX_PIXELS):
            return header[:3]
        image, _ = _open(stream, MAX_PIXELS)
        return *image.size, _orientation(image)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)


def _read(path: AnyPath) -> bytes:
    """Read a photo's file; of a TIFF that is too large, which might fill the memory, the header."""
    with open_bytes(path) as stream:
        with _decoding(path):
            _tiff_header(stream, MAX_PIXELS)
        stream.seek(0)
        return stream.read()


@contextmanager
def _decoding(path: AnyPath = "", limit: int = MAX_PIXELS) -> Iterator[None]:
    """Make a `PhotoError` of whatever a decoder raises, with the file's name where it has one."""
    with warnings.catch_warnings():
        # The size is checked here; damaged metadata is no reason to refuse a readable photo.
        warnings.simplefilter("ignore")
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # each decoder raises its own types
            if isinstance(error, Image.DecompressionBombError):  # too early for `_check_size`
                error = PhotoError("too_large", f"the photo is over the limit of {limit} pixels")
            elif not isinstance(error, PhotoError):
                reason = " ".join(str(error).split())  # libheif's has two lines
                error = PhotoError("corrupt", f"the photo is corrupt or cut off ({reason})")
            named = f"photo {path}: {error}" if path else str(error)
            raise PhotoError(error.kind, named) from error


def _open(stream: IO[bytes], max_pixels: int) -> tuple[Image.Image, bool]:
    """Open a photo by its header, and say whether its samples have more bits than Pillow keeps."""
    start = stream.read(25)
    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        kind, why = "not_a_photo", f"not a photo in a known format ({', '.join(FORMATS)})"
        if start.startswith(_SIGNATURES):
            kind = "corrupt"
            why = "the photo is corrupt or cut off in its header, or of a kind that cannot be read"
            why += "; save it as RGB with 8 bits"
        raise PhotoError(kind, why) from error
    limit = max_pixels // (2 if image.format == "WEBP" else 1)  # which takes twice the memory
    is_wide = image.mode[0] in "IF" or (image.format == "PNG" and start[24] > 8)
    if is_wide:
        limit = pixel_limit(2, 1 if image.mode[0] == "I" else 3, max_pixels)
    _check_size(image.width, image.height, limit, max_pixels)
    return image, is_wide


def _check_size(width: int, height: int, limit: int, max_pixels: int) -> None:
    """Refuse a photo by its header; ``limit``: pixels, ``max_pixels`` or fewer by its depth."""
    if width * height == 0:
        raise PhotoError("corrupt", "the photo's header declares no pixels")
    if width * height > limit:
        is_less = limit < max_pixels
        kind = " for photos of this format and depth; save it with 8 bits" if is_less else ""
        raise PhotoError(
            "too_large", f"the photo has {width} x {height} pixels; the limit is {limit}{kind}"
        )


def pixel_limit(sample_bytes: int, samples: int, max_pixels: int = MAX_PIXELS) -> int:
    """The most pixels that a photo may have, by its depth and the memory that decoding takes."""
    pixel_bytes = sample_bytes * samples
    peak = 8 if sample_bytes == 1 or pixel_bytes <= 2 else max(13, 2 * pixel_bytes + 1)
    return max_pixels * 8 // peak


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


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation."""
    if orientation in _TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _tiff_header(stream: IO[bytes], max_pixels: int) -> tuple[int, int, int, bool] | None:
    """Width, height, orientation of a TIFF as stored, and whether it has over 8 bits; else None."""
    is_tiff = stream.read(4) in _TIFF
    stream.seek(0)
    if not is_tiff:
        return None
    with tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        size, bits = (page.imagewidth, page.imagelength), page.bitspersample
        depth = -(-bits // 8), page.samplesperpixel
        _check_size(*size, pixel_limit(*depth, max_pixels), max_pixels)
        return *size, int(page.tags.valueof(_ORIENTATION, 1)), bits > 8


def _read_tiff(data: bytes) -> np.ndarray:
    """Samples of a TIFF's first page, brighter for more, where they are data: else masked."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        kind, colours = page.photometric, page.samplesperpixel
        deep_pair = colours == 2 and page.bitspersample > 8
        # OpenCV mixes planes up, and makes 8 bits of grey with alpha.
        if colours > 1 and (deep_pair or page.planarconfig != 1):
            if page.compression not in (1, 8, 32946, 32773):  # none, deflate, PackBits
                what = "TIFFs of planes, or of grey with alpha of over 8 bits,"
                raise PhotoError("not_a_photo", f"{what} are read plain or with deflate")
            planes = page.asarray()
            planes = np.moveaxis(planes, -1, 0) if page.planarconfig == 1 else planes
            samples = np.dstack(planes[2::-1]) if colours > 2 else planes[0]
        else:
            # OpenCV turns some sample types, others not, and makes grey what is not called RGB.
            meant = {_ORIENTATION: 1, _PHOTOMETRIC: 2 if colours > 2 and kind < 2 else kind}
            for tag in filter(None, map(page.tags.get, meant)):
                value, place = struct.pack(f"{file.byteorder}H", meant[tag.code]), tag.valueoffset
                data = b"".join((data[:place], value, data[place + len(value) :]))
            samples = _read_by_opencv(data)
    with suppress(TypeError, ValueError):  # the tag is missing, or holds no number
        mask = samples == float(page.tags.valueof(_NODATA))  # rounded as the samples were
        samples = np.ma.array(samples, mask=np.logical_or(mask, np.isnan(samples), out=mask))
    white = np.iinfo(samples.dtype).max if samples.dtype.kind in "ui" else samples.max()
    return samples if kind else np.asarray(white, samples.dtype) - samples


def _read_by_opencv(data: bytes) -> np.ndarray:
    """Samples of a PNG, PPM or TIFF as stored, not turned: (H, W) or BGR (H, W, 3)."""
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if samples is None:
        raise ValueError("damaged, or of a sample type that cannot be read; save it with 8 bits")
    return samples
