"""What training sees, drawn by Detectron2's ``Visualizer``: photos as annotated or as augmented."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.utils.visualizer import Visualizer

from .catalog import register_datasets_of
from .errors import CrackError
from .files import atomic_write
from .inference.photo import read_photo
from .training.samples import build_train_loader

SCALE = 2.0  # drawn larger than they are: cracks are thin, lines around them are not
SOURCES = ("annotation", "dataloader")

Drawing = tuple[str, np.ndarray]


def visualize(cfg: CfgNode, source: str, folder: str | os.PathLike[str], count: int) -> list[Path]:
    """Draw the first samples of ``DATASETS.TRAIN`` into PNG files.

    Args:
        cfg: the training's config.
        source: "annotation": whole photos with the instances of the COCO JSON, set after set;
            "dataloader": the crops that the model is given, in the order of training.
        folder: made where missing.
        count: at most so many; a source of few photos gives fewer.

    Returns:
        the files, ``00000_NAME.png`` and so on.

    Raises:
        CrackError: a data set is unknown or missing, a photo cannot be read, or the folder cannot
            be written to.
    """
    if source not in SOURCES:
        raise CrackError(f"source {source} is not one of {', '.join(SOURCES)}")
    register_datasets_of(cfg)
    if not cfg.DATASETS.TRAIN:
        raise CrackError("DATASETS.TRAIN is empty; name a data set to draw")
    drawings = _annotations(cfg) if source == "annotation" else _batches(cfg)
    files = []
    for number, (name, image) in enumerate(islice(drawings, count)):
        files.append(Path(folder) / f"{number:05d}_{Path(name).stem}.png")
        _, data = cv2.imencode(".png", image[:, :, ::-1])
        with atomic_write(files[-1]) as file:
            file.write(data.tobytes())
    return files


def _annotations(cfg: CfgNode) -> Iterator[Drawing]:
    for name in cfg.DATASETS.TRAIN:
        for record in DatasetCatalog.get(name):
            yield record["file_name"], _draw_record(record, name)


def _draw_record(record: dict[str, Any], dataset: str) -> np.ndarray:
    """A record of a data set, drawn: RGB uint8 HxWx3, `SCALE` times as large."""
    photo = read_photo(record["file_name"])
    visualizer = Visualizer(photo[:, :, ::-1], MetadataCatalog.get(dataset), SCALE)
    drawn: np.ndarray = visualizer.draw_dataset_dict(record).get_image()
    return drawn


def _batches(cfg: CfgNode) -> Iterator[Drawing]:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # a few samples do not repay the start of processes
    loader, _ = build_train_loader(cfg, seed=max(cfg.SEED, 0))
    for batch in loader:
        for sample in batch:
            if "image" in sample:
                yield sample["file_name"], _draw_sample(sample, cfg.INPUT.FORMAT)


def _draw_sample(sample: dict[str, Any], image_format: str) -> np.ndarray:
    """A sample of the training loader, drawn: RGB uint8 HxWx3, `SCALE` times as large."""
    image = convert_image_to_rgb(sample["image"].permute(1, 2, 0), image_format)
    instances = sample["instances"]
    visualizer = Visualizer(image, scale=SCALE)
    drawn: np.ndarray = visualizer.overlay_instances(
        boxes=instances.gt_boxes.tensor.numpy(),
        masks=instances.gt_masks.tensor.numpy(),
    ).get_image()
    return drawn
