"""From a photo to its cracks: the one entrance that tools, server and evaluation share."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from torch import nn

from ..calibration import settle_thresholds
from ..config import check_values
from ..errors import CrackError, as_crack_error
from ..modeling import CrackRCNN
from ..modeling.compiled import compile_for_cpu
from ..modeling.crack_rcnn import NetworkOutput
from ..modeling.instances import Components
from ..weights import load_weights
from .prediction import CrackInstance, CrackPrediction
from .tiling import run_tiles

logger = logging.getLogger("detectron2.crack_data.inference")
_LOADERS = ("fvcore.common.checkpoint", "detectron2.checkpoint.detection_checkpoint")


class CrackPredictor:
    """Predicts photos of any size with one model, around Detectron2's `DefaultPredictor`.

    Photos whose longer side exceeds CRACK.INFERENCE.TILE_SIZE go through the network in overlapping
    tiles; cracks are found once, on the whole photo's map. ``calibration`` is the checkpoint's,
    where its thresholds are used. Call it from one thread: the model is not reentrant.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module | None = None) -> None:
        """Build the model of ``cfg`` and load MODEL.WEIGHTS (empty: random weights).

        Or copy those of ``model``, of this config, such as one in training. A `CrackError` says
        that there is no such checkpoint, it does not fit the config, or a key has no such value.
        """
        self.cfg = cfg = cfg.clone()
        cfg.defrost()
        check_values(cfg)
        settle_device(cfg)
        check_masks(cfg)
        weights = cfg.MODEL.WEIGHTS if model is None else ""
        self.calibration = settle_thresholds(cfg, weights)
        bare = cfg.clone()
        bare.MODEL.WEIGHTS = ""
        cfg.freeze()
        loaders = [logging.getLogger(name) for name in _LOADERS]
        for loader in loaders:  # which would say that there is no checkpoint
            loader.disabled = True
        try:
            with as_crack_error("no model can be built from the config"):
                self.predictor = DefaultPredictor(bare)
        finally:
            for loader in loaders:
                loader.disabled = False
        self.model = self.predictor.model
        if model is not None:
            self.model.load_state_dict(model.state_dict())
        elif weights:
            load_weights(self.model, weights)
            _check_computes(self.model, weights)
            logger.info(f"The weights are those of {weights}")
        self.draws_map = isinstance(self.model, CrackRCNN)
        keys, speed = cfg.MODEL.CRACK_MAP, cfg.CRACK.INFERENCE
        self.score_threshold = float(keys.SCORE_THRESHOLD)
        # Other models than CrackRCNN draw no map; their scores stand in for it.
        self.threshold = float(keys.THRESHOLD) if self.draws_map else self.score_threshold
        if self.draws_map and cfg.MODEL.DEVICE == "cpu" and speed.FAST == "auto":
            compile_for_cpu(self.model, speed.PRECISION)

    @torch.inference_mode()
    def __call__(
        self,
        image_bgr: np.ndarray,
        threshold: float | None = None,
        before_tile: Callable[[], None] = lambda: None,
        most: int | None = 100,
    ) -> CrackPrediction:
        """Find the cracks on an upright photo, uint8 (H, W, 3), blue first.

        A pixel is crack where its probability exceeds ``threshold``, in [0, 1] (None:
        MODEL.CRACK_MAP.THRESHOLD). What ``before_tile``, called before each, raises ends it.
        Cracks that score too low fill up what is drawn to ``most`` (None: all of them are given).
        """
        if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
            wrong = f"{image_bgr.dtype} {image_bgr.shape}"
            raise CrackError(f"a photo is an array of uint8 (height, width, 3), not of {wrong}")
        threshold = self.threshold if threshold is None else float(threshold)
        if not self.draws_map:
            return self._find_by_scores(image_bgr, threshold)
        run_network = partial(self._run_network, before_tile)
        output = run_tiles(image_bgr, self.cfg.CRACK.INFERENCE, run_network)
        components, scores = self.model.find_cracks(output)
        drawn = scores >= self.score_threshold
        probability = components.claimed(output.probability, drawn)
        labels = components.labels
        labels *= output.probability > 255.0 * threshold
        best = np.argsort(-scores, kind="stable")
        instances = tuple(_cut(components, scores, best[drawn[best]]))
        rejected = best[~drawn[best] & (scores[best] > 0)]
        if most is not None:
            rejected = rejected[: max(0, most - len(instances))]
        others = tuple(_cut(components, scores, rejected))
        # The interval holds for the calibrated threshold alone.
        calibration = self.calibration if threshold == self.threshold else None
        interval = calibration.interval if calibration else None
        levels = np.bincount(output.probability.ravel(), minlength=256)
        return CrackPrediction(instances, others, probability, threshold, levels, interval)

    def _run_network(self, before_tile: Callable[[], None], image_bgr: np.ndarray) -> NetworkOutput:
        """Run the network on a photo or tile, resized as INPUT.MIN_SIZE_TEST says."""
        before_tile()
        height, width = image_bgr.shape[:2]
        resized = self.predictor.aug.get_transform(image_bgr).apply_image(image_bgr)
        if self.predictor.input_format == "RGB":
            resized = resized[:, :, ::-1]
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return self.model.run_network([{"image": tensor, "height": height, "width": width}])[0]

    def _find_by_scores(self, image_bgr: np.ndarray, threshold: float) -> CrackPrediction:
        """A stock model's masks as they are; what it scores below the threshold is rejected."""
        output = self.predictor(image_bgr)["instances"].to("cpu")
        probability = np.zeros(image_bgr.shape[:2], np.uint8)
        drawn: list[CrackInstance] = []
        rejected: list[CrackInstance] = []
        for index in output.scores.argsort(descending=True).tolist():
            score, mask = float(output.scores[index]), output.pred_masks[index].numpy()
            is_drawn = score >= self.score_threshold and score > threshold
            if instance := CrackInstance.from_mask(score, mask):
                (drawn if is_drawn else rejected).append(instance)
            if is_drawn:
                probability[mask] = np.maximum(probability[mask], round(255 * score))
        levels = np.bincount(probability.ravel(), minlength=256)
        return CrackPrediction(tuple(drawn), tuple(rejected), probability, threshold, levels)


def settle_device(cfg: CfgNode) -> None:
    """Make MODEL.DEVICE the CPU where it is a GPU and there is none; else a `CrackError`."""
    with as_crack_error(f"MODEL.DEVICE {cfg.MODEL.DEVICE} cannot be used; take cpu or cuda"):
        if torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        torch.zeros(1, device=cfg.MODEL.DEVICE)


def check_masks(cfg: CfgNode) -> None:
    """Refuse a model that finds boxes alone by a `CrackError`."""
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture != "CrackRCNN" and not cfg.MODEL.MASK_ON:
        raise CrackError(f"MODEL.META_ARCHITECTURE {architecture} needs MODEL.MASK_ON True here")


@torch.inference_mode()
def _check_computes(model: Any, weights: str) -> None:
    """Refuse finite weights that compute NaN, which compiled layers and the heads pass over."""
    photo = torch.linspace(-2, 2, 3 * 128 * 128, device=model.device).view(1, 3, 128, 128)
    features = model.backbone(photo)
    computed = list(features.values())
    if isinstance(model, CrackRCNN):
        computed.append(model.crack_map_head(features, photo))
    if any(torch.isnan(x).any() for x in computed):
        raise CrackError(
            f"checkpoint {weights} computes values that are no numbers: its training has diverged "
            "or the file is damaged; take an earlier one"
        )


def _cut(components: Components, scores: np.ndarray, chosen: np.ndarray) -> Iterator[CrackInstance]:
    """The chosen cracks; those without a pixel above the threshold are dropped."""
    for index in chosen.tolist():
        x0, y0, x1, y1 = components.boxes[index].tolist()
        mask = components.labels[y0:y1, x0:x1] == index + 1
        if instance := CrackInstance.from_mask(float(scores[index]), mask, (x0, y0)):
            yield instance
