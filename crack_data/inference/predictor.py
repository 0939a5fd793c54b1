"""From a photo to its cracks: the one entrance that tools, server and evaluation share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
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
from ..modeling.instances import Components, Detection, claimed_map
from ..weights import load_weights
from .prediction import CrackInstance, CrackPrediction

Spans = list[tuple[int, int]]  # start and stop, px

logger = logging.getLogger("detectron2.crack_data.inference")


class CrackPredictor:
    """Predicts photos of any size with one model, around Detectron2's `DefaultPredictor`.

    Photos whose longer side exceeds CRACK.INFERENCE.TILE_SIZE go through the network in overlapping
    tiles; cracks are found once, on the whole photo's map. Where a call gives no threshold of
    pixels, it is ``threshold``; ``calibration`` is the checkpoint's, where its thresholds are used.
    Call it from one thread: the model is not reentrant.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module | None = None) -> None:
        """Build the model of ``cfg`` and load MODEL.WEIGHTS (empty: random weights).

        Or copy those of ``model``, of this config, such as one in training. A `CrackError` says
        that there is no such checkpoint, it does not fit the config, or a key has no such value.
        """
        self.cfg = cfg = cfg.clone()
        cfg.defrost()
        if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        check_values(cfg)
        weights = cfg.MODEL.WEIGHTS if model is None else ""
        self.calibration = settle_thresholds(cfg, weights)
        bare = cfg.clone()
        bare.MODEL.WEIGHTS = ""
        cfg.freeze()
        logging.disable(logging.INFO)  # Detectron2 would log that there is no checkpoint
        try:
            with as_crack_error("no model can be built from the config"):
                self.predictor = DefaultPredictor(bare)
        finally:
            logging.disable(logging.NOTSET)
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
    ) -> CrackPrediction:
        """Find the cracks on an upright photo, uint8 (H, W, 3), blue first.

        A pixel is crack where its probability exceeds ``threshold``, in [0, 1] (None:
        MODEL.CRACK_MAP.THRESHOLD). What ``before_tile``, called before each, raises ends it.
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
        probability = claimed_map(output.probability, components, drawn)
        labels = components.labels
        labels *= output.probability > 255.0 * threshold
        best = np.argsort(-scores, kind="stable")
        instances = _cut(components, scores, best[drawn[best]])
        # The rejected fill up what is drawn to at least 100.
        rejected = best[~drawn[best] & (scores[best] > 0)][: max(0, 100 - len(instances))]
        others = _cut(components, scores, rejected)
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


def _cut(
    components: Components, scores: np.ndarray, chosen: np.ndarray
) -> tuple[CrackInstance, ...]:
    """The chosen cracks; those without a pixel above the threshold are dropped."""
    instances = []
    for index in chosen.tolist():
        x0, y0, x1, y1 = components.boxes[index].tolist()
        mask = components.labels[y0:y1, x0:x1] == index + 1
        instances.append(CrackInstance.from_mask(float(scores[index]), mask, (x0, y0)))
    return tuple(filter(None, instances))


def tile_spans(height: int, width: int, keys: CfgNode) -> tuple[Spans, Spans]:
    """Rows and columns of tiles for a photo under CRACK.INFERENCE's keys: one where it fits."""
    size, overlap = keys.TILE_SIZE, keys.TILE_OVERLAP
    if size == 0 or max(height, width) <= size:
        return [(0, height)], [(0, width)]
    if not 0 < 2 * overlap <= size:
        raise CrackError(
            f"CRACK.INFERENCE.TILE_OVERLAP is {overlap}; it must be more than 0 and at most "
            f"half of TILE_SIZE, {size}"
        )
    return _spans(height, size, overlap), _spans(width, size, overlap)


def _spans(length: int, size: int, overlap: int) -> Spans:
    """Evenly spread tiles of one length that cover ``length`` and overlap by at least ``overlap``.

    As few as tiles of ``size`` would be, and then as short as they may be.
    """
    if length <= size:
        return [(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    shortest = -(-(length + (count - 1) * overlap) // count)
    size = min(size, -(-shortest // 32) * 32)  # the network pads its input to multiples of it
    starts = np.linspace(0, length - size, count).round().astype(int).tolist()
    return [(start, start + size) for start in starts]


def run_tiles(
    image_bgr: np.ndarray, keys: CfgNode, run_network: Callable[[np.ndarray], NetworkOutput]
) -> NetworkOutput:
    """Run the network over all tiles, blend their crack maps and collect their detections.

    In an overlap each tile counts the less the nearer its border is. One row of tiles at a time is
    held in floats. ``image_bgr`` is uint8 (H, W, 3), ``keys`` CRACK.INFERENCE.
    """
    height, width = image_bgr.shape[:2]
    rows, columns = tile_spans(height, width, keys)
    if len(rows) == len(columns) == 1:
        return run_network(image_bgr)
    probability = np.zeros((height, width), dtype=np.uint8)
    detections: list[Detection] = []
    row_weights, column_weights = (_weights(x, keys.TILE_OVERLAP) for x in (rows, columns))
    total = np.zeros((rows[0][1], width), dtype=np.float32)
    for row, (top, bottom) in enumerate(rows):
        for column, (left, right) in enumerate(columns):
            found = run_network(np.ascontiguousarray(image_bgr[top:bottom, left:right]))
            weights = np.outer(row_weights[row], column_weights[column])
            total[:, left:right] += weights * found.probability
            for detection in found.detections:
                x0, y0, x1, y1 = detection.box
                box = (x0 + left, y0 + top, x1 + left, y1 + top)
                detections.append(replace(detection, box=box))
        end = rows[row + 1][0] if row + 1 < len(rows) else bottom
        done = end - top
        probability[top:end] = np.rint(total[:done])
        total[: len(total) - done] = total[done:].copy()
        total[len(total) - done :] = 0
    return NetworkOutput(probability, detections)


def _weights(spans: Spans, overlap: int) -> list[np.ndarray]:
    """Weights of each tile along one side: they fall towards its neighbours and sum to 1."""
    size = spans[0][1]
    rise = (np.arange(size, dtype=np.float32) + 0.5) / overlap
    fades = np.ones((len(spans), size), dtype=np.float32)
    fades[1:] = np.minimum(fades[1:], rise)
    fades[:-1] = np.minimum(fades[:-1], rise[::-1])
    total = np.zeros(spans[-1][1], dtype=np.float32)
    for fade, (start, stop) in zip(fades, spans, strict=True):
        total[start:stop] += fade
    return [fade / total[start:stop] for fade, (start, stop) in zip(fades, spans, strict=True)]
