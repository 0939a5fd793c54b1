"""A drawn data set and a config small enough to train in a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode
from pycocotools import mask as coco_mask

from crack_data.datasets import register_datasets_of

SIZE = (72, 96)  # height, width


def draw_photo(rng: np.random.Generator, crack: bool) -> tuple[np.ndarray, np.ndarray]:
    """A noisy grey photo, (72, 96, 3) uint8, and the mask of its one crack or none."""
    image = rng.normal(150, 12, (*SIZE, 3))
    mask = np.zeros(SIZE, np.uint8)
    if crack:
        points = np.column_stack([np.linspace(4, 90, 6), rng.uniform(10, 60, 6)]).astype(np.int32)
        cv2.polylines(mask, [points], False, 1, thickness=3)
        image[mask > 0] -= 90
    return np.clip(image, 0, 255).astype(np.uint8), mask


def write_dataset(folder: Path, photos: int, seed: int, json_name: str) -> Path:
    """Photos as PNG (every fourth without a crack) and their COCO JSON."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(1, photos + 1):
        image, mask = draw_photo(rng, crack=number % 4 != 0)
        name = f"{json_name}_{number:02d}.png"
        cv2.imwrite(str(folder / name), image)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        if mask.any():
            code = coco_mask.encode(np.asfortranarray(mask))
            x, y, w, h = (float(value) for value in coco_mask.toBbox(code))
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": {"size": list(SIZE), "counts": code["counts"].decode()},
                    "bbox": [x, y, w, h],
                    "area": float(coco_mask.area(code)),
                    "iscrowd": 0,
                }
            )
    path = folder / f"{json_name}.json"
    categories = [{"id": 1, "name": "crack"}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with train.json (12 photos) and val.json (4 photos)."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_dataset(folder, 12, 1, "train")
    write_dataset(folder, 4, 2, "val")
    return folder


@pytest.fixture
def small(data: Path, tmp_path: Path) -> list[str]:
    """KEY VALUE pairs that make crack_mobilenet.yaml small and fast, in fp32 on the CPU."""
    return [
        "MODEL.DEVICE", "cpu",
        "MODEL.BACKBONE.WEIGHTS", "",
        "MODEL.MOBILENETV2.WIDTH_MULT", "0.25",
        "MODEL.FPN.OUT_CHANNELS", "16",
        "MODEL.ROI_BOX_HEAD.FC_DIM", "32",
        "CRACK.FREEZE_BN_STATS", "False",
        "CRACK.AUG.CROP_SIZE", "64",
        "DATASETS.TRAIN", f"('{data / 'train.json'}',)",
        "DATASETS.TEST", f"('{data / 'val.json'}',)",
        "DATALOADER.NUM_WORKERS", "0",
        "SOLVER.CPU_BF16", "False",
        # To compile the model for each evaluation takes longer than to evaluate four photos.
        "CRACK.INFERENCE.FAST", "off",
        "SOLVER.IMS_PER_BATCH", "2",
        "SOLVER.MAX_ITER", "6",
        "SOLVER.WARMUP_ITERS", "2",
        "SOLVER.CHECKPOINT_PERIOD", "2",
        "TEST.EVAL_PERIOD", "0",
        "OUTPUT_DIR", str(tmp_path / "out"),
        "SEED", "7",
    ]  # fmt: skip


@pytest.fixture
def make_config(small: list[str], repo: Path) -> Callable[..., CfgNode]:
    """Makes the small config, with more KEY VALUE pairs, and registers its data sets."""
    from crack_data import modeling  # noqa: F401 - registers the models
    from crack_data.config import load_config

    def make(*overrides: object) -> CfgNode:
        pairs = [*small, *(str(value) for value in overrides)]
        cfg = load_config(str(repo / "configs" / "crack_mobilenet.yaml"), pairs)
        register_datasets_of(cfg)
        Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
        return cfg

    return make
