"""A record of the data set becomes what Detectron2's models take."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances
from pycocotools import mask as coco_mask
from scipy import ndimage

from .augmentation import CrackAugmentation

# A pixel of a crop is crack when at least this share of it is. Just below one half: measured on
# CFD, DeepCrack and crackseg448 at scales 0.7 to 1.4 this keeps 99.4 to 100 % of the centrelines
# and draws cracks 2 to 5 % too large.
CRACK_COVERAGE = 0.45
# Pieces joined by pixels that are crack to this share are one instance: a crack of less than a
# pixel's width comes apart at CRACK_COVERAGE (CFD at scale 0.7: 3.5 times the instances).
LINK_COVERAGE = 0.2
# Smaller pieces of a crack, cut off by the crop's edge, teach the detector nothing.
MIN_INSTANCE_PIXELS = 8


class PhotoUnreadable(Exception):
    """A photo that cannot be decoded, or is not the one that was annotated."""


class CrackMapper:
    """Reads a photo, draws a crop of it and finds the crop's instances.

    After scaling and cropping a crack may have come apart or left the picture, so instances are
    the connected components of what is left of the cracks' union, as they were when converted.
    """

    def __init__(self, cfg: CfgNode, augment: bool) -> None:
        """Args: cfg: the whole config; augment: draw crops, else map the photo as it is."""
        self.augmentation = CrackAugmentation(cfg) if augment else None
        self.image_format = cfg.INPUT.FORMAT

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Map one record.

        Args:
            record: in Detectron2's standard format, masks as RLE, with "dataset_name".
            rng: source of all randomness.

        Returns:
            "image" (3, H, W) uint8 in INPUT.FORMAT; "instances" with gt_boxes, gt_classes,
            gt_masks (`BitMasks`); "height", "width", "file_name", "image_id", "dataset_name".

        Raises:
            PhotoUnreadable: see there.
        """
        image = read_photo_of(record)
        mask = union_mask(record)
        if self.augmentation is None:
            coverage = mask * np.uint8(255)
        else:
            image, coverage = self.augmentation(image, mask, rng)
        if self.image_format == "RGB":
            image = image[:, :, ::-1]
        height, width = coverage.shape
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "instances": find_instances(coverage),
            "height": height,
            "width": width,
            "file_name": record["file_name"],
            "image_id": record["image_id"],
            "dataset_name": record["dataset_name"],
        }


def read_photo_of(record: dict[str, Any]) -> np.ndarray:
    """Decode the photo of a record, upright: (H, W, 3) uint8 BGR."""
    image = cv2.imread(record["file_name"], cv2.IMREAD_COLOR)
    if image is None:
        raise PhotoUnreadable("cannot be decoded")
    wanted = (record["height"], record["width"])
    if image.shape[:2] != wanted:
        raise PhotoUnreadable(f"is {image.shape[:2]} px high and wide, annotated as {wanted}")
    return image


def union_mask(record: dict[str, Any]) -> np.ndarray:
    """Draw all cracks of a record: (H, W) uint8 of 0 and 1."""
    codes = [annotation["segmentation"] for annotation in record["annotations"]]
    if not codes:
        return np.zeros((record["height"], record["width"]), np.uint8)
    return coco_mask.decode(coco_mask.merge(codes))


def find_instances(coverage: np.ndarray) -> Instances:
    """Split the crack of a photo into instances: 8-connected, each with its tight box.

    Args:
        coverage: (H, W) uint8, how much of each pixel is crack, 0 to 255.
    """
    linked = (coverage >= 255 * LINK_COVERAGE).astype(np.uint8)
    _, labels = cv2.connectedComponents(linked, connectivity=8)
    labels[coverage < 255 * CRACK_COVERAGE] = 0
    kept = np.flatnonzero(np.bincount(labels.ravel())[1:] >= MIN_INSTANCE_PIXELS) + 1
    places = ndimage.find_objects(labels)
    corners = [
        (columns.start, rows.start, columns.stop, rows.stop)
        for rows, columns in (places[label - 1] for label in kept)
    ]
    instances = Instances(coverage.shape)
    instances.gt_masks = BitMasks(torch.from_numpy(labels[None] == kept[:, None, None]))
    instances.gt_boxes = Boxes(torch.tensor(corners, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.zeros(len(kept), dtype=torch.int64)
    return instances
