"""The faults that masks of real data sets have, put into an exact one."""

from __future__ import annotations

import cv2
import numpy as np

from .arrays import ByteImage


def noisy_mask(mask: ByteImage, rng: np.random.Generator) -> ByteImage:
    """Widen, antialias, speckle and JPEG-compress a mask.

    Args:
        mask: HxW, 0 or 255; not changed.
        rng: where the numbers come from.

    Returns:
        HxW, 0 to 255, with the ringing that JPEG leaves around edges.
    """
    if rng.random() < 0.4:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
        mask = cv2.dilate(mask, kernel)
    blurred = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 0.6))
    speckled = np.maximum(blurred, _specks(rng, mask.shape[:2]))
    quality = int(rng.integers(70, 96))
    _, data = cv2.imencode(".jpg", speckled, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _specks(rng: np.random.Generator, shape: tuple[int, ...]) -> ByteImage:
    specks = np.zeros(shape, np.uint8)
    for _ in range(int(rng.integers(0, 25))):
        y, x = rng.integers(shape[0]), rng.integers(shape[1])
        specks[y : y + rng.integers(1, 3), x : x + rng.integers(1, 3)] = rng.integers(150, 256)
    return specks
