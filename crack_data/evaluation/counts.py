"""One photo's prediction against its ground truth, reduced to counts.

Every metric of a test set is a function of these counts, so that a set of any size is evaluated
in a few kilobytes a photo and can be resampled afterwards. Definitions: docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

PIXEL_TOLERANCE = 2
CENTRELINE_TOLERANCE = 4
LEVELS = 256
# Lower bounds, px, of the ranges of local width that recall is broken down by.
WIDTHS = (0, 3, 6, 12, 25, 50)

BoolMask = NDArray[np.bool_]
ByteMap = NDArray[np.uint8]
Counts = NDArray[np.int32]


@dataclass(frozen=True)
class PhotoCounts:
    """Pixel counts of one photo; histograms have one entry per level of the 8-bit crack map.

    Attributes:
        height, width: the photo's size, px.
        area: its pixels that are not ignored.
        true: ground-truth pixels.
        predicted: pixels of the drawn mask.
        hit: pixels in both.
        predicted_near: pixels of the drawn mask within 2 px of a ground-truth pixel.
        true_near: ground-truth pixels within 2 px of a pixel of the drawn mask.
        line_tp: ground-truth centreline pixels within 4 px of the predicted centreline.
        line_fp: predicted centreline pixels farther than 4 px from the true centreline.
        line_fn: ground-truth centreline pixels farther than 4 px from the predicted centreline.
        width_true: shape (6,), ground-truth pixels by local width, see `WIDTHS`.
        width_hit: shape (6,), those of them in the drawn mask.
        map_all: shape (256,), levels of the crack map over the whole photo.
        map_true: shape (256,), levels over the ground-truth pixels.
        map_near: shape (256,), levels over the pixels within 2 px of the ground truth.
        reach_true: shape (256,), highest level within 2 px, over the ground-truth pixels.
    """

    height: int
    width: int
    area: int
    true: int
    predicted: int
    hit: int
    predicted_near: int
    true_near: int
    line_tp: int
    line_fp: int
    line_fn: int
    width_true: Counts
    width_hit: Counts
    map_all: Counts
    map_true: Counts
    map_near: Counts
    reach_true: Counts


def count_photo(
    truth: BoolMask, mask: BoolMask, crack_map: ByteMap, ignored: BoolMask | None = None
) -> PhotoCounts:
    """Count what the metrics need of one photo.

    Args:
        truth: ground truth, bool, shape (H, W).
        mask: the drawn mask, bool, shape (H, W).
        crack_map: crack probability x 255, rounded, uint8, shape (H, W).
        ignored: pixels that are not counted anywhere, bool, shape (H, W); None: there are none.

    Raises:
        ValueError: the shapes differ.
    """
    if not truth.shape == mask.shape == crack_map.shape:
        raise ValueError(f"shapes differ: {truth.shape}, {mask.shape}, {crack_map.shape}")
    area = truth.size
    if ignored is not None and ignored.any():
        truth, mask, crack_map = truth & ~ignored, mask & ~ignored, crack_map * ~ignored
        area -= count(ignored)
    near_truth = dilate(truth, PIXEL_TOLERANCE)
    reach = cv2.dilate(crack_map, disk(PIXEL_TOLERANCE)).astype(np.uint8, copy=False)
    true_line = skeletonize(truth)
    line_tp, line_fp, line_fn = centreline_counts(true_line, skeletonize(mask))
    bins = np.digitize(local_widths(truth, true_line), WIDTHS) - 1
    return PhotoCounts(
        height=truth.shape[0],
        width=truth.shape[1],
        area=area,
        true=count(truth),
        predicted=count(mask),
        hit=count(truth & mask),
        predicted_near=count(near_truth & mask),
        true_near=count(truth & dilate(mask, PIXEL_TOLERANCE)),
        line_tp=line_tp,
        line_fp=line_fp,
        line_fn=line_fn,
        width_true=_histogram(bins, len(WIDTHS)),
        width_hit=_histogram(bins[mask[truth]], len(WIDTHS)),
        map_all=_histogram(crack_map.ravel()),
        map_true=_histogram(crack_map[truth]),
        map_near=_histogram(crack_map[near_truth]),
        reach_true=_histogram(reach[truth]),
    )


def centreline_counts(true_line: BoolMask, predicted_line: BoolMask) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of two centrelines, px.

    The lines (bool, shape (H, W)) are one pixel wide. The counts are those of clIoU with 4 px
    tolerance in OmniCrack30k (Benz and Rodehorst, CVPR Workshops 2024).
    """
    hit = count(true_line & dilate(predicted_line, CENTRELINE_TOLERANCE))
    false = count(predicted_line & ~dilate(true_line, CENTRELINE_TOLERANCE))
    return hit, false, count(true_line) - hit


def local_widths(mask: BoolMask, line: BoolMask) -> NDArray[np.float32]:
    """Width of the crack at each of the mask's pixels, px, in the order of ``mask.nonzero()``.

    It is twice the distance to the background, taken at the nearest pixel of the centreline.

    Args:
        mask: bool, shape (H, W).
        line: its centreline, bool, shape (H, W).
    """
    if not line.any():
        return np.zeros(count(mask), np.float32)
    depth = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    _, nearest = cv2.distanceTransformWithLabels(
        (~line).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    depth_of = np.zeros(int(nearest.max()) + 1, np.float32)
    depth_of[nearest[line]] = depth[line]
    return 2 * depth_of[nearest[mask]]


def dilate(mask: BoolMask, radius: int) -> BoolMask:
    """Every pixel within `radius` px (Euclidean) of a pixel of the bool mask of shape (H, W)."""
    return cv2.dilate(mask.view(np.uint8), disk(radius)).view(np.bool_)


def disk(radius: int) -> ByteMap:
    """Pixel offsets at Euclidean distance <= radius: uint8, shape (2 radius + 1,) * 2."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def count(mask: BoolMask) -> int:
    """Number of pixels set."""
    return int(np.count_nonzero(mask))


def _histogram(levels: NDArray[np.integer], length: int = LEVELS) -> Counts:
    return np.bincount(levels, minlength=length).astype(np.int32)
