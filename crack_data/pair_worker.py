"""One pair of files → its annotations and what the report says about it. Runs in a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from .errors import CrackError
from .mask_files import read_mask
from .masks import ByteMask, CleaningOptions, clean_mask, label_instances
from .pairing import Pair
from .photo_probe import probe_photo
from .rle import encode_labels


@dataclass(frozen=True)
class PairOptions:
    """What a worker needs to know.

    Attributes:
        cleaning: how masks are cleaned.
        instances: "components", or "single" for one instance per photo.
        mask_format: "rle" or "polygon".
        resize_masks: scale a mask to its photo's size where they differ.
    """

    cleaning: CleaningOptions
    instances: str = "components"
    mask_format: str = "rle"
    resize_masks: bool = False


@dataclass
class PairResult:
    """What one pair gave.

    Attributes:
        width, height: the photo upright, px.
        annotations: one JSON object per instance without its braces and ids.
        crack_area: px; mean_width: px, 0 without crack.
        flags: suspicion → its value.
        error: why the pair cannot be used, "" if it can.
    """

    width: int = 0
    height: int = 0
    annotations: list[str] = field(default_factory=list)
    crack_area: int = 0
    mean_width: float = 0.0
    flags: dict[str, float] = field(default_factory=dict)
    error: str = ""


def process_pair(pair: Pair, options: PairOptions) -> PairResult:
    """Read, check, clean and encode one pair; errors are returned, not raised."""
    try:
        width, height, _ = probe_photo(pair.photo)
        mask = clean_mask(_fitting_mask(pair, width, height, options), options.cleaning)
    except CrackError as error:
        return PairResult(error=str(error))
    return PairResult(
        width=width,
        height=height,
        annotations=_annotations(mask, options),
        crack_area=cv2.countNonZero(mask),
        mean_width=mean_width(mask),
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
        return cv2.resize(grey, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
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
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    across = cv2.countNonZero(padded[:, 1:] ^ padded[:, :-1])
    down = cv2.countNonZero(padded[1:] ^ padded[:-1])
    return 2 * area / (np.pi / 4 * (across + down))


def _annotations(mask: ByteMask, options: PairOptions) -> list[str]:
    count, labels, stats = label_instances(mask, options.cleaning)
    if options.instances == "single" and count:
        x, y, w, h = cv2.boundingRect(mask)
        count, labels = 1, mask
        stats = np.array([[0] * 5, [x, y, w, h, cv2.countNonZero(mask)]], np.int32)
    rles = encode_labels(labels, count)
    return [_annotation(row, rle) for row, rle in zip(stats[1:].tolist(), rles, strict=True)]


def _annotation(row: list[int], segmentation: Any) -> str:
    entry = {
        "category_id": 1,
        "bbox": row[:4],
        "area": row[4],
        "iscrowd": 0,
        "segmentation": segmentation,
    }
    return json.dumps(entry, separators=(",", ":"))[1:-1]
