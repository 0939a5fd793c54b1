"""One pair of files → its annotations and what the report says about it. Runs in a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .components import ByteMask, Labels
from .duplicates import mask_digest, perceptual_hash
from .errors import CrackError
from .mask_files import read_mask
from .masks import CleaningOptions, clean_mask, label_instances
from .pairing import Pair
from .photo_probe import probe_photo
from .polygons import polygon_of
from .rle import encode_labels
from .suspicion import suspicions


@dataclass(frozen=True)
class PairOptions:
    """What a worker needs to know.

    Attributes:
        cleaning: how masks are cleaned.
        instances: "components", or "single" for one instance per photo.
        mask_format: "rle" or "polygon".
        resize_masks: scale a mask to its photo's size where they differ.
        hash_photos: compute perceptual hashes.
    """

    cleaning: CleaningOptions
    instances: str = "components"
    mask_format: str = "rle"
    resize_masks: bool = False
    hash_photos: bool = False


@dataclass
class PairResult:
    """What one pair gave.

    Attributes:
        width, height: the photo upright, px.
        annotations: one JSON object per instance without its braces and ids.
        crack_area: px; mean_width: px, 0 without crack.
        flags: suspicion → its value.
        digest: equal for equal masks, empty for an empty one.
        photo_hash: perceptual hash, 0 where none was asked for.
        error: why the pair cannot be used, "" if it can.
    """

    width: int = 0
    height: int = 0
    annotations: list[str] = field(default_factory=list)
    crack_area: int = 0
    mean_width: float = 0.0
    flags: dict[str, float] = field(default_factory=dict)
    digest: bytes = b""
    photo_hash: int = 0
    error: str = ""


def process_pair(pair: Pair, options: PairOptions) -> PairResult:
    """Read, check, clean and encode one pair; errors are returned, not raised."""
    try:
        width, height, grey = probe_photo(pair.photo)
        mask = clean_mask(_fitting_mask(pair, width, height, options), options.cleaning)
    except CrackError as error:
        return PairResult(error=str(error))
    return PairResult(
        width=width,
        height=height,
        annotations=_annotations(mask, options),
        crack_area=cv2.countNonZero(mask),
        mean_width=mean_width(mask),
        flags=suspicions(pair.stem, grey, mask),
        digest=mask_digest(mask),
        photo_hash=perceptual_hash(grey) if options.hash_photos else 0,
    )


def _fitting_mask(pair: Pair, width: int, height: int, options: PairOptions) -> ByteMask:
    """The grey mask, HxW as its photo.

    Raises:
        CrackError: it cannot be read, or has another size and must not be resized.
    """
    grey = read_mask(pair.mask)
    if grey.shape == (height, width):
        return grey
    if options.resize_masks:
        resized: Any = cv2.resize(grey, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return resized
    raise CrackError(
        f"mask {pair.mask} is {grey.shape[1]}x{grey.shape[0]} px but photo {pair.photo} is "
        f"{width}x{height} px (upright by EXIF); --resize-masks scales it"
    )


def mean_width(mask: ByteMask) -> float:
    """Mean width of what a binary mask, HxW, draws: twice its area over its perimeter, px.

    The perimeter is Cauchy's: pi/4 times the number of pixel edges it crosses along rows and
    columns, right on average over all directions of a crack.
    """
    area = cv2.countNonZero(mask)
    if not area:
        return 0.0
    padded = np.pad(mask, 1)
    across = np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    down = np.count_nonzero(padded[1:] != padded[:-1])
    return 2 * area / (np.pi / 4 * (across + down))


def _annotations(mask: ByteMask, options: PairOptions) -> list[str]:
    if options.instances == "single":
        count, labels = int(mask.any()), mask.astype(np.int32)
    else:
        count, labels = label_instances(mask, options.cleaning)
    rles = encode_labels(labels, count)
    boxes = [[int(value) for value in box] for box in coco_mask.toBbox(rles)] if rles else []
    areas = coco_mask.area(rles).tolist() if rles else []
    shapes: list[Any] = rles
    if options.mask_format == "polygon":
        shapes = [_polygons(labels, i, box) for i, box in enumerate(boxes, start=1)]
    return [_annotation(*entry) for entry in zip(boxes, areas, shapes, strict=True)]


def _polygons(labels: Labels, label: int, box: list[int]) -> list[list[int]]:
    x, y, width, height = box
    component = (labels[y : y + height, x : x + width] == label).astype(np.uint8)
    return [polygon_of(component, x, y)]


def _annotation(box: list[int], area: int, segmentation: Any) -> str:
    entry = {
        "category_id": 1,
        "bbox": box,
        "area": area,
        "iscrowd": 0,
        "segmentation": segmentation,
    }
    return json.dumps(entry, separators=(",", ":"))[1:-1]
