"""A small data set, and what stands for a model: it predicts from the photo's pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as coco_mask
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog

from crack_data.config import add_crack_config
from crack_data.inference.prediction import CrackInstance, CrackPrediction

NAME = "test_crack_evaluator"
HEIGHT, WIDTH = 24, 32
PHOTOS = 7


def truth_of(index: int) -> np.ndarray:
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    if index % 3:
        rows = np.clip(4 + index + np.cumsum(np.resize([0, 1, 0, -1, 1], WIDTH)), 0, HEIGHT - 1)
        truth[rows, np.arange(WIDTH)] = True
    return truth


def photo_of(index: int) -> np.ndarray:
    """The grey photo, in which a pixel is as bright as it is likely to be crack."""
    rng = np.random.default_rng(index)
    moved = np.roll(truth_of(index), index % 2, axis=0)
    noise = rng.integers(0, 100 + 60 * (index == 3), moved.shape)
    return np.clip(150 * moved + noise, 0, 255).astype(np.uint8)


def found(photo: np.ndarray) -> CrackPrediction:
    """Predicts from the photo's pixels: one instance with all of its bright ones, one rejected."""
    levels = photo[:, :, 0]
    height, width = levels.shape
    box = (0, 0, width, height)
    drawn = (CrackInstance(0.9, box, levels > 127),) if (levels > 127).any() else ()
    rejected = (CrackInstance(0.1, box, np.ones_like(levels, bool)),)
    return CrackPrediction(drawn, rejected, levels.copy(), 0.5, np.zeros(256, int))


def annotation(mask: np.ndarray, crowd: int = 0) -> dict[str, Any]:
    return {"segmentation": coco_mask.encode(np.asfortranarray(mask, np.uint8)), "iscrowd": crowd}


def register(folder: Path, ignored: np.ndarray | None = None) -> None:
    records = []
    for index in range(PHOTOS):
        path = folder / f"photo{index}.png"
        if not path.exists():
            cv2.imwrite(str(path), cv2.cvtColor(photo_of(index), cv2.COLOR_GRAY2BGR))
        annotations = [annotation(truth_of(index))] if index % 3 else []
        if ignored is not None:
            annotations.append(annotation(ignored, crowd=1))
        size = {"height": HEIGHT, "width": WIDTH}
        about = {"file_name": str(path), "image_id": index + 100, "annotations": annotations}
        records.append(about | size)
    DatasetCatalog.register(NAME, lambda: records)


def make_config(folder: Path) -> CfgNode:
    cfg = get_cfg()
    add_crack_config(cfg)
    cfg.OUTPUT_DIR = str(folder / "out")
    cfg.MODEL.META_ARCHITECTURE = "CrackRCNN"
    return cfg
