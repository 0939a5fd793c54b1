"""One picture through the fast path, straight to regions and map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import detector_postprocess
from detectron2.structures import ImageList
from pycocotools import mask as coco_mask

from ...modeling.crack_rcnn import resize_probability
from ...modeling.instances import (
    Components,
    best_components,
    claimed_pixels,
    find_components,
    least_detector_score,
    score_components,
)
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
        # The picture of the next call, where that is known: the network begins it while one core
        # still works on the last one.
        self.upcoming: Callable[[], np.ndarray | None] = lambda: None
        self._begun: tuple[np.ndarray, ImageList] | None = None

    @torch.inference_mode()
    @torch_threads(1)
    def __call__(self, image_bgr: np.ndarray) -> Detections:
        """See `Detections`."""
        height, width = image_bgr.shape[:2]
        if not self.model.draws_map:
            given = {"image": self._input(image_bgr), "height": height, "width": width}
            return to_detections(self.model([given])[0], (height, width), self.score_threshold)
        found = self.model.detect(self._take_begun(image_bgr), self._begin_next)
        probability, components = found.probability, found.components
        if probability is None or components is None:
            raise AssertionError("a model that draws a map gives one")
        if tuple(probability.shape) != (height, width):
            probability = resize_probability(probability, height, width)
            components = find_components(
                probability.numpy(), self.model.model.link_threshold, self.model.model.link_gap
            )
        instances = detector_postprocess(found.instances, height, width)
        scores = score_components(components, instances)
        claimed = claimed_pixels(components, scores, self.score_threshold)
        crack_map = probability.numpy() * claimed
        return Detections(_regions(components, scores, self.score_threshold), crack_map)

    def _input(self, image_bgr: np.ndarray) -> torch.Tensor:
        image = self.predictor.aug.get_transform(image_bgr).apply_image(image_bgr)
        if self.predictor.input_format == "RGB":
            image = image[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    def _begin_next(self) -> None:
        image = self.upcoming()
        if image is None:
            return
        try:
            self._begun = (image, self.model.begin(self._input(image)))
        except Exception:  # its own call, not this one, is to fail
            self._begun = None

    def _take_begun(self, image_bgr: np.ndarray) -> ImageList:
        """What was begun of a picture, now if not before."""
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] is image_bgr:
            return begun[1]
        if begun is not None:
            self.model.finish_bottom()  # begun in vain
        return self.model.begin(self._input(image_bgr))


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
