"""Photos of more than 8 bits a sample, read by OpenCV and scaled to 8 bits."""

from __future__ import annotations

import io
import math
import struct

import cv2
import numpy as np
import tifffile

BAND = 512  # rows converted at a time
_ORIENTATION, _PHOTOMETRIC = 274, 262


def to_8_bits(samples: np.ndarray) -> np.ndarray:
    """Scale samples, (H, W) or BGR (H, W, 3), to 8 bits by the range that they use: BGR (H, W, 3).

    Full scale is the smallest power of two (less one, for values above 1) that holds the largest
    sample: a 12-bit camera's 16-bit file comes out as its 8-bit twin would, numbers that fit into
    8 bits stay as they are, and floats may run to 1, to 255 or to anything. A few outliers four
    times above all others are clipped. Where all values lie within a sixteenth of that scale
    (thermography), or some are below zero, their own range is spread over 0 to 255. NaN becomes 0.
    """
    base, scale = sample_range(samples)
    scaled = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), BAND):
        band = (samples[top : top + BAND].astype(np.float32) - base) * scale
        np.nan_to_num(band, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        scaled[top : top + BAND] = np.rint(band).clip(0, 255)
    return cv2.cvtColor(scaled, cv2.COLOR_GRAY2BGR) if scaled.ndim == 2 else scaled


def sample_range(samples: np.ndarray) -> tuple[float, float]:
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


def tiff_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, orientation of a TIFF as stored; bytes a pixel, 0 for samples of 8 bits."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        bits, orientation = page.bitspersample, int(page.tags.valueof(_ORIENTATION, 1))
        wide_bytes = page.samplesperpixel * -(-bits // 8) if bits > 8 else 0
        return page.imagewidth, page.imagelength, orientation, wide_bytes


def read_tiff(data: bytes) -> np.ndarray:
    """Samples of a TIFF's first page, brighter for more: as `read_by_opencv` gives them."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if page.planarconfig != 1:  # one plane after the other: OpenCV mixes them up
            return np.moveaxis(page.asarray(), 0, 2)[:, :, 2::-1]
        tag = page.tags.get(_ORIENTATION)
        if tag is not None and tag.value != 1:  # OpenCV turns some sample types, others not
            upright = struct.pack(f"{file.byteorder}H", 1)
            place = tag.valueoffset
            data = b"".join((data[:place], upright, data[place + len(upright) :]))
        is_white_zero = page.tags.valueof(_PHOTOMETRIC) == 0
    samples = read_by_opencv(data)
    return samples.max() - samples if is_white_zero else samples


def wide_peak(pixel_bytes: int) -> int:
    """Bytes that decoding and scaling take for each pixel at their peak (measured)."""
    return 8 if pixel_bytes <= 2 else max(13, 2 * pixel_bytes + 1)


def read_by_opencv(data: bytes) -> np.ndarray:
    """Samples of a PNG, PPM or TIFF as stored, not turned: (H, W) or BGR (H, W, 3)."""
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if samples is None:
        raise ValueError("damaged, or of a sample type that cannot be read; save it with 8 bits")
    return samples
