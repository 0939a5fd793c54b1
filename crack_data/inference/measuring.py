"""Length, width and orientation of a crack, from its skeleton and its distance transform."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.morphology import skeletonize

from .prediction import CrackInstance


@dataclass(frozen=True)
class Measurement:
    """Measurements of one crack.

    Attributes:
        length_px: along the crack, all branches together.
        mean_width_px: area by length.
        max_width_px: at the widest place.
        orientation_deg: of the main axis, in [0, 180): 0 is level, 90 upright, counted
            anticlockwise as the photo is seen.
    """

    length_px: float
    mean_width_px: float
    max_width_px: float
    orientation_deg: float


def measure(instance: CrackInstance) -> Measurement:
    """Measure one crack."""
    mask = np.pad(instance.mask, 1)
    skeleton = skeletonize(mask)
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    length = max(1.0, float(np.count_nonzero(skeleton)))
    return Measurement(
        length_px=length,
        mean_width_px=instance.area / length,
        max_width_px=2.0 * float(distance.max()) - 0.5,
        orientation_deg=_orientation(mask),
    )


def _orientation(mask: np.ndarray) -> float:
    y, x = np.nonzero(mask)
    (sxx, sxy), (_, syy) = np.cov(np.stack([x, -y])) if len(x) > 1 else np.zeros((2, 2))
    return math.degrees(0.5 * math.atan2(2 * sxy, sxx - syy)) % 180.0
