"""One picture through the fast path, straight to regions and map."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import detector_postprocess
from pycocotools import mask as coco_mask

from ...modeling.claim import (
    Components,
    best_components,
    claimed_pixels,
    find_components,
    least_detector_score,
    score_components,
)
from ...modeling.crack_rcnn import resize_probability
from ..detector import DefaultDetector, Detections, Region, to_detections
from .accelerate import accelerate
from .engine import torch_threads


class FastDetector:
    """A `Detector` that gives what a `DefaultDetector` gives."""

    def __init__(self, plain: DefaultDetector, cfg: CfgNode) -> None:
        """Compile.

        Args:
            plain: with its trained model, one that `can_accelerate`.
            cfg: its config.

        Raises:
            CrackError: as `accelerate`.
        """
        self.predictor = plain.predictor
        self.score_threshold = plain.score_threshold
        self.model = accelerate(plain.predictor.model, cfg)
        least = plain.score_threshold
        self.model.min_score = least_detector_score(least) if self.model.draws_map else least

    @torch.inference_mode()
    @torch_threads(1)
    def __call__(self, image_bgr: np.ndarray) -> Detections:
        """See `Detections`."""
        height, width = image_bgr.shape[:2]
        image = self.predictor.aug.get_transform(image_bgr).apply_image(image_bgr)
        if self.predictor.input_format == "RGB":
            image = image[:, :, ::-1]
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if not self.model.draws_map:
            given = {"image": tensor, "height": height, "width": width}
            return to_detections(self.model([given])[0], (height, width), self.score_threshold)
        found = self.model.detect(tensor)
        probability, components = found.probability, found.components
        if probability is None or components is None:
            raise AssertionError("a model that draws a map gives one")
        if tuple(probability.shape) != (height, width):
            probability = resize_probability(probability, height, width)
            components = find_components(probability.numpy(), self.model.model.link_threshold)
        instances = detector_postprocess(found.instances, height, width)
        scores = score_components(components, instances)
        claimed = claimed_pixels(components, scores, self.score_threshold)
        crack_map = probability.numpy() * claimed
        return Detections(_regions(components, scores, self.score_threshold), crack_map)


def _regions(
    components: Components, scores: np.ndarray, score_threshold: float
) -> tuple[Region, ...]:
    best = best_components(scores)
    regions = []
    for index in best[scores[best] >= score_threshold].tolist():
        x0, y0, x1, y1 = components.boxes[index].tolist()
        within = components.labels[y0:y1, x0:x1] == index + 1
        counts = coco_mask.encode(np.asfortranarray(within, dtype=np.uint8))["counts"]
        regions.append(Region(float(scores[index]), (x0, y0, x1, y1), counts))
    return tuple(regions)
