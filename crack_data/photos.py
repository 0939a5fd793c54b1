"""The one reader of photos: any usual file becomes BGR, 8 bits, upright.

Memory, measured: beside the file, at most 8 bytes for each pixel of the limit, whatever the format,
but 10 for a progressive JPEG whose colours are not subsampled, and 12 where it is CMYK.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import cv2
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from .errors import CrackError
from .samples import BAND, mask_nodata, to_8_bits
from .storage import HAS_HEIF, AnyPath, read_bytes

# The only formats that are tried; Pillow's other plugins, some of which start programs, are not.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
if HAS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)

_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIGNATURES = (_JPEG, b"\x89PNG", b"RIFF", *_TIFF, b"BM", b"GIF8", b"P5", b"P6")

MAX_PIXELS = 178_000_000  # below Pillow's own limit for decompression bombs (2 x 89,478,485)
MAX_SCANS = 100  # of a JPEG: decoding time grows with them; a progressive photo has about ten
# Bytes that decoding takes at its peak, beside the file, for each pixel of an 8-bit photo (measured
# at 50 megapixels: 5 to 8, progressive JPEGs up to 12). WebP and wide samples, which take more, may
# have so many pixels less.
_PEAK, _PEAK_OF_WEBP = 8, 16
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
    data = read_bytes(path)
    with _decoding(path):
        return decode_photo(data)


def decode_photo(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a photo file: BGR uint8 (H, W, 3), turned upright by the EXIF orientation.

    Of an animation, the first frame, without transparency; `to_8_bits` scales other samples. A
    `PhotoError` where it is none of `FORMATS`, corrupt, or, by its header, over ``max_pixels``.
    """
    with _decoding(limit=max_pixels):
        if data.startswith(_TIFF):
            width, height, orientation, *depth = _tiff_header(data)
            _check_size(width, height, _peak(*depth), max_pixels)
            if depth[0] > 1:
                return _upright(to_8_bits(_read_tiff(data)), orientation)
        image, is_wide = _open(data, max_pixels)
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
    data = read_bytes(path)
    with _decoding(path):
        if data.startswith(_JPEG):
            grey, _ = _open(data, MAX_PIXELS)
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
    """Width and height of a photo in px, upright; of a TIFF alone the whole file is read."""
    formats = [name for name in FORMATS if name != "TIFF"]
    with _decoding(path), suppress(UnidentifiedImageError), Image.open(path, formats=formats) as x:
        _check_size(x.width, x.height, _PEAK, MAX_PIXELS)
        return x.size[::-1] if _orientation(x) in _TURNED else x.size
    width, height, orientation = read_header(path)
    return (height, width) if orientation in _TURNED else (width, height)


def read_header(path: AnyPath) -> tuple[int, int, int]:
    """Width and height of a photo in px as stored, and its EXIF orientation (1: upright)."""
    data = read_bytes(path)
    with _decoding(path):
        if data.startswith(_TIFF):
            return _tiff_header(data)[:3]
        image, _ = _open(data, MAX_PIXELS)
        return *image.size, _orientation(image)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)


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


def _open(data: bytes, max_pixels: int) -> tuple[Image.Image, bool]:
    """Open a photo by its header, and say whether its samples have more bits than Pillow keeps."""
    if data.startswith(_JPEG):
        _check_scans(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        kind, why = "not_a_photo", f"not a photo in a known format ({', '.join(FORMATS)})"
        if data.startswith(_SIGNATURES):
            kind = "corrupt"
            why = "the photo is corrupt or cut off in its header, or of a kind that cannot be read"
            why += "; save it as RGB with 8 bits"
        raise PhotoError(kind, why) from error
    peak = _PEAK_OF_WEBP if image.format == "WEBP" else _PEAK
    is_wide = image.mode[0] in "IF" or (image.format == "PNG" and data[24] > 8)
    if is_wide:
        peak = _peak(2, 1 if image.mode[0] == "I" else 3)
    _check_size(image.width, image.height, peak, max_pixels)
    return image, is_wide


def _check_size(width: int, height: int, peak: int, max_pixels: int) -> None:
    """Refuse a photo by its header; ``peak``: bytes a pixel that decoding takes."""
    if width * height == 0:
        raise PhotoError("corrupt", "the photo's header declares no pixels")
    limit = max_pixels * _PEAK // peak
    if width * height > limit:
        kind = " for photos of this format and depth; save it with 8 bits" if peak > _PEAK else ""
        raise PhotoError(
            "too_large", f"the photo has {width} x {height} pixels; the limit is {limit}{kind}"
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


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation."""
    if orientation in _TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _tiff_header(data: bytes) -> tuple[int, int, int, int, int]:
    """Width, height, orientation of a TIFF as stored; bytes of a sample, samples of a pixel."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        size = page.imagewidth, page.imagelength
        orientation = int(page.tags.valueof(_ORIENTATION, 1))
        return *size, orientation, -(-page.bitspersample // 8), page.samplesperpixel


def _read_tiff(data: bytes) -> np.ndarray:
    """Samples of a TIFF's first page, brighter for more, where they are data: else masked."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        kind, colours = page.photometric, page.samplesperpixel
        if colours > 1 and page.planarconfig != 1:  # OpenCV mixes planes up
            if page.compression not in (1, 8, 32946, 32773):  # none, deflate, PackBits
                raise PhotoError("not_a_photo", "TIFFs of planes are read plain or with deflate")
            planes = page.asarray()
            samples = np.dstack(planes[2::-1]) if colours > 2 else planes[0]
        else:
            # OpenCV turns some sample types, others not, and makes grey what is not called RGB.
            meant = {_ORIENTATION: 1, _PHOTOMETRIC: 2 if colours > 2 and kind < 2 else kind}
            for tag in filter(None, map(page.tags.get, meant)):
                value, place = struct.pack(f"{file.byteorder}H", meant[tag.code]), tag.valueoffset
                data = b"".join((data[:place], value, data[place + len(value) :]))
            samples = _read_by_opencv(data)
    samples = mask_nodata(samples, page.tags.valueof(_NODATA))
    kept = samples.dtype.type  # beside a mask, Python's own numbers would make it wider
    white = samples.max() if samples.dtype.kind == "f" else kept(np.iinfo(samples.dtype).max)
    return samples if kind else white - samples


def tiff_limit(sample_bytes: int, samples: int) -> int:
    """The most pixels that a TIFF may have, by bytes of a sample and samples of a pixel."""
    return MAX_PIXELS * _PEAK // _peak(sample_bytes, samples)


def _peak(sample_bytes: int, samples: int) -> int:
    """Bytes that decoding and scaling take for each pixel at their peak (measured)."""
    pixel_bytes = sample_bytes * samples
    return _PEAK if sample_bytes == 1 or pixel_bytes <= 2 else max(13, 2 * pixel_bytes + 1)


def _read_by_opencv(data: bytes) -> np.ndarray:
    """Samples of a PNG, PPM or TIFF as stored, not turned: (H, W) or BGR (H, W, 3)."""
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if samples is None:
        raise ValueError("damaged, or of a sample type that cannot be read; save it with 8 bits")
    return samples
