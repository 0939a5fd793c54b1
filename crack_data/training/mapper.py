"""A record of the data set becomes what Detectron2's models take, with the instances it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Instances
from skimage.measure import regionprops

from ..config import value_by_set
from ..convert.linking import link_pieces
from ..datasets import read_photo_of
from ..modeling.crack_map_head import IGNORED
from ..segmentation import ignored_pixels, instance_masks
from . import augmentation

# A pixel of a crop is crack when at least this share of it is: measured on CFD, DeepCrack and
# crackseg448 at scales 0.7 to 1.4, that keeps 99.4 to 100 % of the centrelines and draws cracks
# 2 to 5 % too large.
CRACK_COVERAGE = 0.45
# Pieces joined by pixels that are crack to this share are one: a crack of less than a pixel's width
# comes apart at CRACK_COVERAGE (CFD at scale 0.7: 3.5 times the instances).
LINK_COVERAGE = 0.2


@dataclass(frozen=True)
class Truth:
    """What a data set says of one photo."""

    # int16 label maps (H, W), 0 for background; instances that overlap lie in different layers.
    layers: list[np.ndarray]
    # Labels of instances that the data set itself has in pieces farther apart than the linking gap:
    # no crop takes them apart.
    scattered: set[int]
    ignored: np.ndarray  # bool (H, W), pixels that do not count

    def union(self) -> np.ndarray:
        """All crack pixels: uint8 (H, W) of 0 and 1."""
        return np.any(self.layers, axis=0).view(np.uint8)


class CrackMapper:
    """Reads a photo, draws a crop of it and finds what the crop holds of each instance.

    Pieces of one instance that a crop has cut apart, farther than MODEL.CRACK_MAP.LINK_GAP, become
    several instances, since nothing in the crop shows that they are one.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.augmentation = cfg.CRACK.AUG
        self.image_format = cfg.INPUT.FORMAT
        self.link_gap = cfg.MODEL.CRACK_MAP.LINK_GAP
        self.rim_of = value_by_set(cfg, "LABEL_RIMS", default=0.0)

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Map one record in Detectron2's standard format, with "dataset_name".

        "image" is uint8 (3, H, W) in INPUT.FORMAT; "instances" have gt_boxes, gt_classes and
        gt_masks (`BitMasks`); "sem_seg" is uint8 (H, W), 1 for crack, `IGNORED` for what does not
        count.
        """
        keys, image = self.augmentation, read_photo_of(record)
        truth = truth_of(record, self.link_gap)
        if keys.ENABLED:
            plan = augmentation.draw_plan(truth.union(), rng, keys)
            image = augmentation.change_light(augmentation.crop_photo(image, plan), rng, keys)
            image = augmentation.degrade(image, rng, keys)
            masks, target = crop_truth(truth, plan, self.link_gap)
            ignore_rim(target, self.rim_of.get(record["dataset_name"], 0.0) * plan.scale)
        else:
            masks = [layer == x.label for layer in truth.layers for x in regionprops(layer)]
            target = truth.union()
            target[truth.ignored] = IGNORED
        if self.image_format == "RGB":
            image = image[:, :, ::-1]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "instances": to_instances(masks, target.shape),
            "sem_seg": torch.from_numpy(target),
            "height": target.shape[0],
            "width": target.shape[1],
            **{key: record[key] for key in ("file_name", "image_id", "dataset_name")},
        }


def truth_of(record: dict[str, Any], link_gap: float) -> Truth:
    """Read the annotations of a record."""
    layers = [np.zeros((record["height"], record["width"]), np.int16)]
    scattered = set()
    for label, mask in enumerate(instance_masks(record), start=1):
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        box = (slice(y, y + height), slice(x, x + width))
        inside = np.ascontiguousarray(mask[box])
        if all(layer[box][inside].any() for layer in layers):
            layers.append(np.zeros_like(layers[0]))
        free = next(layer for layer in layers if not layer[box][inside].any())
        free[box][inside] = label
        if len(_pieces(inside, link_gap)) > 1:
            scattered.add(label)
    return Truth(layers, scattered, ignored_pixels(record))


def crop_truth(
    truth: Truth, plan: augmentation.CropPlan, link_gap: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Masks of the instances in a crop, bool (size, size), and the crack map's target, uint8."""
    masks = []
    union = np.zeros((plan.size, plan.size), np.uint8)
    for layer in truth.layers:
        coverage = augmentation.crop_mask(layer > 0, plan)
        np.maximum(union, coverage, out=union)
        labels = augmentation.crop_labels(layer, plan)
        labels[coverage < 255 * LINK_COVERAGE] = 0
        crack = coverage >= 255 * CRACK_COVERAGE
        for region in regionprops(labels):
            one = region.label in truth.scattered
            for piece in [region.image] if one else _pieces(region.image, link_gap):
                piece = piece & crack[region.slice]
                if np.count_nonzero(piece) >= 8:  # less, at the crop's edge, teaches nothing
                    masks.append(np.zeros(union.shape, bool))
                    masks[-1][region.slice] = piece
    target = (union >= 255 * CRACK_COVERAGE).view(np.uint8)
    if plan.scale < 0.7:  # a crack thinner than a pixel is neither there nor absent
        target[(target == 0) & (union >= 255 * LINK_COVERAGE)] = IGNORED
    if truth.ignored.any():
        target[augmentation.crop_mask(truth.ignored, plan) > 127] = IGNORED
    return masks, target


def ignore_rim(target: np.ndarray, width: float) -> None:
    """Mark crack pixels of a target, (H, W), at most ``width`` px inside as `IGNORED`, in place."""
    if width > 0:
        depth = cv2.distanceTransform((target == 1).view(np.uint8), cv2.DIST_L2, 3)
        target[(depth > 0) & (depth <= width)] = IGNORED


def _pieces(mask: np.ndarray, link_gap: float) -> list[np.ndarray]:
    """The parts of a mask that are farther apart than the linking gap, each bool (H, W)."""
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    if count <= 2:
        return [mask]
    linked = link_pieces(labels, count - 1, link_gap)[labels]
    return [linked == crack for crack in range(1, int(linked.max()) + 1)]


def to_instances(masks: Sequence[np.ndarray], shape: tuple[int, ...]) -> Instances:
    """Detectron2's truth of a photo: each of N masks, bool (H, W), with its tight box."""
    stacked = np.stack(masks) if masks else np.zeros((0, *shape), bool)
    instances = Instances(tuple(shape))
    instances.gt_masks = BitMasks(torch.from_numpy(stacked))
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.zeros(len(stacked), dtype=torch.int64)
    return instances
