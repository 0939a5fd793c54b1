"""A detector that needs no training: what is dark is crack."""

from __future__ import annotations

import cv2
import numpy as np

from crack_data.inference.detector import Detections, Region


def darkness(image_bgr: np.ndarray) -> np.ndarray:
    """Crack probability, float32 (H, W): 1 for black, 0 from mid-grey on."""
    grey = image_bgr.mean(axis=2, dtype=np.float32)
    return np.clip((128.0 - grey) / 128.0, 0.0, 1.0)


def dark_components(image_bgr: np.ndarray) -> Detections:
    """Each connected dark component is a detection that claims its box."""
    probability = darkness(image_bgr)
    dark = (probability > 0).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    regions = []
    claimed = np.zeros(dark.shape, dtype=bool)
    for x, y, width, height, area in stats[1:count].tolist():
        regions.append(Region(0.5 + 0.5 * area / dark.size, (x, y, x + width, y + height)))
        claimed[y : y + height, x : x + width] = True
    return Detections(tuple(regions), probability * claimed)
