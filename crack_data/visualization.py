"""Pictures of a data set: as annotated, as training sees it, and as a model predicts it."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.utils.visualizer import Visualizer

from .datasets import folder_name, read_photo_of, register_datasets_of
from .errors import CrackError
from .evaluation.contact_sheet import inspection_strips, write_contact_sheet
from .files import atomic_write
from .inference.drawing import encode_png
from .inference.predictor import CrackPredictor
from .modeling.crack_map_head import IGNORED
from .segmentation import ignored_pixels, instance_masks
from .training.data import build_train_loader

SCALE = 2.0  # drawn larger than they are: cracks are thin, lines around them are not
SOURCES = ("annotation", "dataloader", "prediction")


def visualize(
    cfg: CfgNode, source: str, folder: Path, count: int, worst: bool = False
) -> list[Path]:
    """Draw at most ``count`` samples of a data set into PNG files, and return these.

    A ``source`` "annotation" is whole photos of DATASETS.TRAIN with the instances of the COCO JSON,
    "dataloader" the crops that the model is given, in the order of training, "prediction" so many
    photos of each set of DATASETS.TEST on a contact sheet, the ``worst`` or spread evenly.
    """
    key = "TEST" if source == "prediction" else "TRAIN"
    register_datasets_of(cfg, (key,))
    if not cfg.DATASETS[key]:
        raise CrackError(f"DATASETS.{key} is empty; name a data set to draw")
    files = []
    if source == "prediction":
        predictor = CrackPredictor(cfg)
        for name in cfg.DATASETS.TEST:
            files.append(folder / f"contact_sheet_{folder_name(name)}.png")
            write_contact_sheet(files[-1], inspection_strips(name, predictor, count, worst))
        return files
    drawings = _annotations(cfg) if source == "annotation" else _batches(cfg)
    for number, (name, image) in enumerate(islice(drawings, count)):
        files.append(folder / f"{number:05d}_{Path(name).stem}.png")
        with atomic_write(files[-1]) as file:
            file.write(encode_png(image[:, :, ::-1]))
    return files


def _annotations(cfg: CfgNode) -> Iterator[tuple[str, np.ndarray]]:
    """Names of photos, and their drawings."""
    for name in cfg.DATASETS.TRAIN:
        for record in DatasetCatalog.get(name):
            photo, masks = read_photo_of(record)[:, :, ::-1], list(instance_masks(record))
            yield record["file_name"], _draw(photo, masks, ignored_pixels(record))


def _batches(cfg: CfgNode) -> Iterator[tuple[str, np.ndarray]]:
    """Names of photos, and drawings of their crops."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # a few samples do not repay the start of processes
    for batch in build_train_loader(cfg, seed=max(cfg.SEED, 0)):
        for sample in batch:
            if "image" in sample:
                image = convert_image_to_rgb(sample["image"].permute(1, 2, 0), cfg.INPUT.FORMAT)
                masks = list(sample["instances"].gt_masks.tensor.numpy())
                yield sample["file_name"], _draw(image, masks, sample["sem_seg"].numpy() == IGNORED)


def _draw(image: np.ndarray, masks: list[np.ndarray], ignored: np.ndarray) -> np.ndarray:
    """Draw bool masks (H, W) of instances in colours, ignored pixels in grey, on an RGB image."""
    # Hues a golden ratio of the circle apart: neighbours in the list differ most.
    colours = [colorsys.hsv_to_rgb(0.618 * index % 1, 1, 1) for index in range(len(masks))]
    if ignored.any():
        masks, colours = [*masks, ignored], [*colours, (0.5, 0.5, 0.5)]
    drawing = Visualizer(image, scale=SCALE)
    drawn: np.ndarray = drawing.overlay_instances(masks=masks, assigned_colors=colours).get_image()
    return drawn
