"""One photo's prediction against its ground truth, reduced to counts.

Every metric of a test set is a function of these counts, so that a set of any size is evaluated
in a few kilobytes a photo and can be resampled afterwards. Definitions: docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..thinning import thin

PIXEL_TOLERANCE = 2
CENTRELINE_TOLERANCE = 4
LEVELS = 256

BoolMask = NDArray[np.bool_]
ByteMap = NDArray[np.uint8]
Histogram = NDArray[np.int32]


@dataclass(frozen=True)
class PhotoCounts:
    """Pixel counts of one photo; histograms have one entry per level of the 8-bit crack map.

    Attributes:
        height, width: the photo's size, px.
        true: ground-truth pixels.
        predicted: pixels of the drawn mask.
        hit: pixels in both.
        predicted_near: pixels of the drawn mask within 2 px of a ground-truth pixel.
        true_near: ground-truth pixels within 2 px of a pixel of the drawn mask.
        line_tp: ground-truth centreline pixels within 4 px of the predicted centreline.
        line_fp: predicted centreline pixels farther than 4 px from the true centreline.
        line_fn: ground-truth centreline pixels farther than 4 px from the predicted centreline.
        map_all: shape (256,), levels of the crack map over the whole photo.
        map_true: shape (256,), levels over the ground-truth pixels.
        map_near: shape (256,), levels over the pixels within 2 px of the ground truth.
        reach_true: shape (256,), highest level within 2 px, over the ground-truth pixels.
    """

    height: int
    width: int
    true: int
    predicted: int
    hit: int
    predicted_near: int
    true_near: int
    line_tp: int
    line_fp: int
    line_fn: int
    map_all: Histogram
    map_true: Histogram
    map_near: Histogram
    reach_true: Histogram


def count_photo(truth: BoolMask, mask: BoolMask, crack_map: ByteMap) -> PhotoCounts:
    """Count what the metrics need of one photo.

    Args:
        truth: ground truth, bool, shape (H, W).
        mask: the drawn mask, bool, shape (H, W).
        crack_map: crack probability x 255, rounded, uint8, shape (H, W).

    Raises:
        ValueError: the three shapes differ.
    """
    if not truth.shape == mask.shape == crack_map.shape:
        raise ValueError(f"shapes differ: {truth.shape}, {mask.shape}, {crack_map.shape}")
    near_truth = dilate(truth, PIXEL_TOLERANCE)
    reach = cv2.dilate(crack_map, disk(PIXEL_TOLERANCE)).astype(np.uint8, copy=False)
    line_tp, line_fp, line_fn = centreline_counts(truth, mask)
    return PhotoCounts(
        height=truth.shape[0],
        width=truth.shape[1],
        true=_count(truth),
        predicted=_count(mask),
        hit=_count(truth & mask),
        predicted_near=_count(near_truth & mask),
        true_near=_count(truth & dilate(mask, PIXEL_TOLERANCE)),
        line_tp=line_tp,
        line_fp=line_fp,
        line_fn=line_fn,
        map_all=_histogram(crack_map.ravel()),
        map_true=_histogram(crack_map[truth]),
        map_near=_histogram(crack_map[near_truth]),
        reach_true=_histogram(reach[truth]),
    )


def centreline_counts(truth: BoolMask, mask: BoolMask) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of the masks' centrelines, px.

    Both masks (bool, shape (H, W)) are thinned to one-pixel lines. The counts are those of clIoU
    with 4 px tolerance in OmniCrack30k (Benz and Rodehorst, CVPR Workshops 2024).
    """
    true_line = centreline(truth)
    predicted_line = centreline(mask)
    hit = _count(true_line & dilate(predicted_line, CENTRELINE_TOLERANCE))
    false = _count(predicted_line & ~dilate(true_line, CENTRELINE_TOLERANCE))
    return hit, false, _count(true_line) - hit


def centreline(mask: BoolMask) -> BoolMask:
    """Skeleton one pixel wide (Zhang and Suen 1984) of a bool mask of shape (H, W)."""
    padded = np.pad(mask, 1)
    line = np.zeros(padded.size, np.bool_)
    line[thin(padded)] = True
    return line.reshape(padded.shape)[1:-1, 1:-1]


def dilate(mask: BoolMask, radius: int) -> BoolMask:
    """Every pixel within `radius` px (Euclidean) of a pixel of the bool mask of shape (H, W)."""
    return cv2.dilate(mask.view(np.uint8), disk(radius)).view(np.bool_)


def disk(radius: int) -> ByteMap:
    """Pixel offsets at Euclidean distance <= radius: uint8, shape (2 radius + 1,) * 2."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _count(mask: BoolMask) -> int:
    return int(np.count_nonzero(mask))


def _histogram(levels: ByteMap) -> Histogram:
    return np.bincount(levels, minlength=LEVELS).astype(np.int32)
