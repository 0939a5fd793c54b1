"""From a photo to its cracks: the one entrance that tools and server share."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import CfgNode

from ..errors import CrackError
from .detector import DefaultDetector, Detector, Region
from .fast import FastDetector, can_accelerate
from .prediction import CrackInstance, CrackPrediction
from .tiling import TileGrid, detect_tiled, join_pieces


class CrackPredictor:
    """Predicts photos of any size with one model.

    Photos whose longer side exceeds CRACK.INFERENCE.MAX_SIZE are cut into overlapping tiles and
    come back in one piece. Call it from one thread: the model is not reentrant.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build the model of ``cfg`` and load MODEL.WEIGHTS (empty: random weights).

        Raises:
            CrackError: no such checkpoint, or it does not fit the config.
        """
        cfg = cfg.clone()
        cfg.defrost()
        if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        cfg.freeze()
        self.cfg = cfg
        self.detect: Detector = build_detector(cfg)
        # The photo of the next call, where the caller knows it: it may be begun ahead of time.
        self.upcoming: Callable[[], np.ndarray | None] = lambda: None
        if isinstance(self.detect, FastDetector):
            self.detect.upcoming = self._upcoming_picture
        keys = cfg.MODEL.CRACK_MAP
        # Other models than CrackRCNN draw no map; their scores stand in for it.
        self._scores_as_map = cfg.MODEL.META_ARCHITECTURE != "CrackRCNN"
        self.threshold = float(keys.SCORE_THRESHOLD if self._scores_as_map else keys.THRESHOLD)

    def __call__(self, image_bgr: np.ndarray, threshold: float | None = None) -> CrackPrediction:
        """Find the cracks.

        Args:
            image_bgr: the photo, upright, uint8 (H, W, 3), blue first.
            threshold: a pixel is crack where its probability exceeds this, in [0, 1];
                None: MODEL.CRACK_MAP.THRESHOLD.

        Raises:
            CrackError: not such a photo, or a threshold outside [0, 1].
        """
        threshold = self.threshold if threshold is None else float(threshold)
        _check(image_bgr, threshold)
        height, width = image_bgr.shape[:2]
        started = time.perf_counter()
        grid = self._grid(image_bgr)
        if grid is None:
            detections = self.detect(image_bgr)
            probability = to_uint8(detections.crack_map)
            tiles = [detections.regions]
        else:
            probability, tiles = detect_tiled(image_bgr, self.detect, grid)
        detected = time.perf_counter()
        pieces = [self._cut(regions, probability, threshold) for regions in tiles]
        instances = pieces[0] if grid is None else join_pieces(pieces, grid)
        timing = {
            "detect": 1000 * (detected - started),
            "instances": 1000 * (time.perf_counter() - detected),
        }
        instances.sort(key=lambda x: -x.score)
        return CrackPrediction(height, width, tuple(instances), probability, threshold, timing)

    def _grid(self, image_bgr: np.ndarray) -> TileGrid | None:
        height, width = image_bgr.shape[:2]
        return TileGrid.for_photo(height, width, self.cfg.CRACK.INFERENCE)

    def _upcoming_picture(self) -> np.ndarray | None:
        image = self.upcoming()
        return None if image is None or self._grid(image) else image

    def _cut(
        self, regions: tuple[Region, ...], probability: np.ndarray, threshold: float
    ) -> list[CrackInstance]:
        if self._scores_as_map:
            regions = tuple(x for x in regions if x.score >= threshold)
        return cut_instances(regions, probability, threshold)


def build_detector(cfg: CfgNode) -> Detector:
    """The detector that CRACK.INFERENCE.FAST asks for.

    Raises:
        CrackError: as `DefaultDetector`, or FAST is neither auto nor off.
    """
    fast = cfg.CRACK.INFERENCE.FAST
    if fast not in ("auto", "off"):
        raise CrackError(f"CRACK.INFERENCE.FAST is auto or off, not {fast}")
    plain = DefaultDetector(cfg)
    if fast == "auto" and can_accelerate(plain.predictor.model):
        return FastDetector(plain, cfg)
    return plain


def cut_instances(
    regions: tuple[Region, ...], probability: np.ndarray, threshold: float
) -> list[CrackInstance]:
    """Give each region the crack pixels within it; regions without any are dropped.

    Args:
        regions: with boxes on the photo.
        probability: uint8 (H, W), crack probability x 255.
        threshold: in [0, 1].
    """
    instances = []
    for region in regions:
        x0, y0, x1, y1 = region.box
        mask = region.cut(probability[y0:y1, x0:x1] > 255.0 * threshold)
        if mask.any():
            instances.append(CrackInstance.from_mask(region.score, mask, (x0, y0)))
    return instances


def to_uint8(crack_map: np.ndarray) -> np.ndarray:
    """Probability in [0, 1], (H, W), to uint8, x 255 and rounded."""
    return np.rint(crack_map * 255.0).astype(np.uint8)


def _check(image: np.ndarray, threshold: float) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise CrackError(
            f"a photo is an array of uint8 with shape (height, width, 3), not {image.dtype} with "
            f"{image.shape}"
        )
    if not 0.0 <= threshold <= 1.0:
        raise CrackError(f"the threshold lies between 0 and 1; {threshold} does not")
