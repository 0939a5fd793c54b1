"""Samples of more than 8 bits, whole numbers or floats, scaled to 8 bits as a camera's would be."""

import cv2
import numpy as np

BAND = 512  # rows converted at a time, for a copy of the whole would take memory


def to_8_bits(samples: np.ndarray) -> np.ndarray:
    """Scale samples, (H, W) or BGR (H, W, 3), to 8 bits by the range that they use: BGR (H, W, 3).

    Full scale is the smallest power of two (less one, for values above 1) that holds the largest
    sample: a 12-bit camera's 16-bit file comes out as its 8-bit twin would, numbers that fit into
    8 bits stay as they are, and floats may run to 1, to 255 or to anything. A few outliers four
    times above all others are clipped. Where all values lie within a sixteenth of that scale
    (thermography), or some are below zero, their own range is spread over 0 to 255. NaN becomes 0.
    What is masked counts for nothing in this, and becomes as dark as the darkest of the others.
    """
    base, scale, lowest = sample_range(samples)
    scaled = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), BAND):
        band = (np.ma.filled(samples[top : top + BAND], lowest).astype(np.float32) - base) * scale
        np.nan_to_num(band, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        scaled[top : top + BAND] = np.rint(band).clip(0, 255)
    return cv2.cvtColor(scaled, cv2.COLOR_GRAY2BGR) if scaled.ndim == 2 else scaled


def sample_range(samples: np.ndarray) -> tuple[float, float, float]:
    """What to subtract from the samples, the factor to multiply the rest by, and the lowest."""
    step = max(1, int(np.sqrt(samples.size / 1_000_000)))
    some = np.ma.compressed(samples[::step, ::step]).astype(np.float64)
    some = some[np.isfinite(some)]
    if not some.size:
        return 0.0, 1.0, 0.0
    low, high = np.percentile(some, (0.1, 99.9))
    lowest, top = float(some.min()), float(some.max())
    if top > 4 * high > 0:
        top = float(high)
    least = 255.0 if samples.dtype.kind in "ui" or top > 16 else 2.0**-20
    full = 2.0 ** np.ceil(np.log2(max(top / 1.05, least / 1.05)))
    full -= full > 1
    if low < 0 or (0 < high - low < full / 16 and full > 255):
        return float(low), 255.0 / max(float(high - low), 1e-12), lowest
    return 0.0, 255.0 / full, lowest
