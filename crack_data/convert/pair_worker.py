"""One pair of files → its annotations and what the report says about it. Runs in a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from ..errors import CrackError
from .cleaning import Cracks, find_cracks
from .components import ByteMask
from .duplicates import mask_digest, perceptual_hash
from .mask_files import read_mask
from .options import CleaningOptions
from .pairing import Pair
from .photo_probe import probe_photo
from .polygons import polygon_of
from .rle import boxes_and_areas, encode_runs
from .runs import Runs
from .suspicion import suspicions

_to_json = json.JSONEncoder(separators=(",", ":")).encode


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
        cracks = find_cracks(_fitting_mask(pair, width, height, options), options.cleaning)
    except CrackError as error:
        return PairResult(error=str(error))
    annotations = _annotations(cracks, options)
    return PairResult(
        width=width,
        height=height,
        annotations=annotations,
        crack_area=cv2.countNonZero(cracks.mask) if cracks.count else 0,
        mean_width=mean_width(cracks.mask),
        flags=suspicions(pair.stem, grey, cracks.mask, cracks.x, cracks.y, width * height),
        digest=mask_digest(annotations, width, height),
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
    area = cv2.countNonZero(mask) if mask.size else 0
    if not area:
        return 0.0
    # Edges at the rim, and those within, where neighbours differ.
    edges = sum(int(side.sum()) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    for one, other in ((mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1])):
        edges += round(cv2.norm(one, other, cv2.NORM_L1)) if one.size else 0
    return 2 * area / (np.pi / 4 * edges)


def _annotations(cracks: Cracks, options: PairOptions) -> list[str]:
    if options.instances == "single" and cracks.count:
        cracks = replace(cracks, count=1, runs=Runs.of(cracks.mask))
    boxes, areas = boxes_and_areas(cracks.runs, cracks.count, cracks.x, cracks.y)
    shapes: list[Any]
    if options.mask_format == "polygon":
        shapes = _polygons(cracks, boxes)
    else:
        shapes = encode_runs(cracks.runs, cracks.count, cracks.shape, cracks.x, cracks.y)
    return [_annotation(*entry) for entry in zip(boxes, areas, shapes, strict=True)]


def _polygons(cracks: Cracks, boxes: list[list[int]]) -> list[list[list[int]]]:
    labels = cracks.labels
    found = []
    for label, (x, y, width, height) in enumerate(boxes, start=1):
        top, left = y - cracks.y, x - cracks.x
        component = labels[top : top + height, left : left + width] == label
        found.append([polygon_of(component.astype(np.uint8), x, y)])
    return found


def _annotation(box: list[int], area: int, segmentation: Any) -> str:
    entry = {
        "category_id": 1,
        "bbox": box,
        "area": area,
        "iscrowd": 0,
        "segmentation": segmentation,
    }
    return _to_json(entry)[1:-1]
