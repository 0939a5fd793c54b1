"""Small operations on float images that every part of the drawing shares."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
SUBPIXEL_BITS = 4  # OpenCV's drawing functions take coordinates in 1/16 px
ByteImage = npt.NDArray[np.uint8]


def unit_variance(image: FloatImage) -> FloatImage:
    """Shift and scale to mean 0 and variance 1; a constant image becomes 0."""
    mean, deviation = cv2.meanStdDev(image)
    return (image - np.float32(mean[0, 0])) / np.float32(max(deviation[0, 0], 1e-6))


def blurred(image: FloatImage, sigma: float) -> FloatImage:
    """Gaussian blur of ``sigma`` px, scaled back to mean 0 and variance 1."""
    return unit_variance(cv2.GaussianBlur(image, (0, 0), sigma))


def smoothstep(values: FloatImage, low: float, high: float) -> FloatImage:
    """0 below ``low``, 1 above ``high``, a smooth ramp between."""
    ramp = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)
