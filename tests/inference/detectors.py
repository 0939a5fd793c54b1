"""A detector that needs no training: what is dark is crack."""

from __future__ import annotations

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from crack_data.inference.detector import Detections, Region


def darkness(image_bgr: np.ndarray) -> np.ndarray:
    """Crack probability, float32 (H, W): 1 for black, 0 from mid-grey on."""
    grey = image_bgr.mean(axis=2, dtype=np.float32)
    return np.clip((128.0 - grey) / 128.0, 0.0, 1.0)


def dark_components(image_bgr: np.ndarray) -> Detections:
    """Each connected dark component is a detection, the larger the surer."""
    probability = darkness(image_bgr)
    dark = (probability > 0).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    regions = []
    for label, (x, y, width, height, area) in enumerate(stats[1:].tolist(), start=1):
        component = labels[y : y + height, x : x + width] == label
        counts = coco_mask.encode(np.asfortranarray(component, dtype=np.uint8))["counts"]
        score = 0.5 + 0.5 * area / dark.size
        regions.append(Region(score, (x, y, x + width, y + height), counts))
    assert len(regions) == count - 1
    return Detections(tuple(regions), probability)
