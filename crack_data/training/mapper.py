"""A record of the data set becomes what Detectron2's models take."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Instances
from pycocotools import mask as coco_mask

from .augmentation import CrackAugmentation

# Smaller pieces of a crack, cut off by the crop's edge, teach the detector nothing.
MIN_INSTANCE_PIXELS = 6


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
        if self.augmentation is not None:
            image, mask = self.augmentation(image, mask, rng)
        if self.image_format == "RGB":
            image = image[:, :, ::-1]
        height, width = mask.shape
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "instances": find_instances(mask),
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


def find_instances(mask: np.ndarray) -> Instances:
    """Split a (H, W) mask into its 8-connected components, each with its tight box."""
    binary = mask.astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    kept = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= MIN_INSTANCE_PIXELS) + 1
    masks = torch.from_numpy(labels[None] == kept[:, None, None])
    instances = Instances(mask.shape)
    instances.gt_masks = BitMasks(masks)
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.zeros(len(kept), dtype=torch.int64)
    return instances
