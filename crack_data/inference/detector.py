"""One photo, or one tile of it, through the model: where cracks may be, and the crack map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from pycocotools import mask as coco_mask

from ..modeling import CrackRCNN
from ..weights import load_weights


@dataclass(frozen=True)
class Region:
    """The pixels that one detection claims: those of them that are crack are its mask.

    Attributes:
        score: confidence in [0, 1].
        box: x0, y0, x1, y1 in px, half-open, on the photo.
        counts: COCO's compressed run-length code of the region within the box; None: all of it.
    """

    score: float
    box: tuple[int, int, int, int]
    counts: bytes | None = None

    def cut(self, crack: np.ndarray) -> np.ndarray:
        """Keep the crack pixels of the region.

        Args:
            crack: bool (y1 - y0, x1 - x0), the crack pixels within the box.
        """
        if self.counts is None:
            return crack
        size = list(crack.shape)
        return crack & coco_mask.decode({"size": size, "counts": self.counts}).astype(bool)


@dataclass(frozen=True)
class Detections:
    """What the model says about one picture.

    Attributes:
        regions: of the detections scored at least MODEL.CRACK_MAP.SCORE_THRESHOLD, best first.
        crack_map: float32 (H, W), crack probability, zero outside all regions.
    """

    regions: tuple[Region, ...]
    crack_map: np.ndarray


# Takes BGR uint8 (H, W, 3).
Detector = Callable[[np.ndarray], Detections]


class DefaultDetector:
    """A `Detector` on Detectron2's `DefaultPredictor`.

    For `CrackRCNN` the model's own threshold is lowered until its masks are the whole regions:
    the threshold is applied later, to the map, so that each request may have its own and tiles
    can be blended first. For other models a region is the mask and the map is the score.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build the model of ``cfg`` and load MODEL.WEIGHTS (empty: random weights).

        Raises:
            CrackError: as `load_weights`.
        """
        bare = cfg.clone()
        bare.defrost()
        bare.MODEL.WEIGHTS = ""
        self.predictor = DefaultPredictor(bare)
        if cfg.MODEL.WEIGHTS:
            load_weights(self.predictor.model, cfg.MODEL.WEIGHTS)
        self.score_threshold = float(cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD)
        if isinstance(self.predictor.model, CrackRCNN):
            self.predictor.model.threshold = -1.0

    def __call__(self, image_bgr: np.ndarray) -> Detections:
        """See `Detections`."""
        output = self.predictor(image_bgr)
        return to_detections(output, image_bgr.shape[:2], self.score_threshold)


def to_detections(
    output: dict[str, Any], size: tuple[int, int], score_threshold: float
) -> Detections:
    """Bring a model's output into the form that tiling and drawing share.

    Args:
        output: "instances" with scores and pred_masks (N, H, W), and perhaps "crack_map" (H, W).
        size: (H, W) of the picture.
        score_threshold: lower scores are dropped.
    """
    instances = output["instances"].to("cpu")
    instances = instances[instances.scores >= score_threshold]
    scores = instances.scores.tolist()
    masks = instances.pred_masks.numpy() if len(scores) else np.zeros((0, *size), dtype=bool)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found = [_region(scores[i], masks[i]) for i in order]
    if "crack_map" in output:
        crack_map = output["crack_map"].to("cpu", torch.float32).numpy()
    else:
        crack_map = np.zeros(size, dtype=np.float32)
        for i in reversed(order):
            crack_map[masks[i]] = scores[i]
    return Detections(tuple(x for x in found if x is not None), crack_map)


def _region(score: float, mask: np.ndarray) -> Region | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    crop = mask[y0:y1, x0:x1]
    if crop.all():
        return Region(score, (x0, y0, x1, y1))
    counts = coco_mask.encode(np.asfortranarray(crop, dtype=np.uint8))["counts"]
    return Region(score, (x0, y0, x1, y1), counts)
