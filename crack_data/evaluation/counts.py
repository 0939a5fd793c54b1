"""One photo's prediction against its ground truth, reduced to counts of pixels.

Every pixel metric of a test set is a function of these counts: a few kilobytes a photo, which can
be resampled afterwards. Definitions: docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import disk, skeletonize

PIXEL_TOLERANCE = 2
LEVELS = 256
# Lower bounds, px, of the ranges of local width that recall is broken down by.
WIDTHS = (0, 3, 6, 12, 25, 50)

BoolMask = NDArray[np.bool_]
Counts = NDArray[np.integer]


@dataclass(frozen=True)
class PhotoCounts:
    """Pixel counts of one photo."""

    area: int  # pixels that are not ignored
    true: int  # ground-truth pixels
    predicted: int  # pixels of the drawn mask
    hit: int  # pixels in both
    predicted_near: int  # pixels of the drawn mask within 2 px of a ground-truth pixel
    true_near: int  # ground-truth pixels within 2 px of a pixel of the drawn mask
    width_true: Counts  # shape (6,), ground-truth pixels by local width, see `WIDTHS`
    width_hit: Counts  # shape (6,), those of them in the drawn mask
    map_all: Counts  # shape (256,), levels of the 8-bit crack map over the whole photo
    map_true: Counts  # shape (256,), levels over the ground-truth pixels


def count_photo(
    truth: BoolMask, mask: BoolMask, crack_map: NDArray[np.uint8], ignored: BoolMask | None = None
) -> PhotoCounts:
    """Count what the metrics need of one photo; all arrays have the shape (H, W).

    ``crack_map`` is crack probability x 255, rounded; ``ignored`` pixels are counted nowhere.
    """
    counted = np.ones_like(truth) if ignored is None else ~ignored
    truth, mask, crack_map = truth & counted, mask & counted, crack_map * counted
    bins = np.digitize(local_widths(truth), WIDTHS) - 1
    return PhotoCounts(
        area=int(np.count_nonzero(counted)),
        true=int(np.count_nonzero(truth)),
        predicted=int(np.count_nonzero(mask)),
        hit=int(np.count_nonzero(truth & mask)),
        predicted_near=int(np.count_nonzero(dilate(truth, PIXEL_TOLERANCE) & mask)),
        true_near=int(np.count_nonzero(truth & dilate(mask, PIXEL_TOLERANCE))),
        width_true=np.bincount(bins, minlength=len(WIDTHS)),
        width_hit=np.bincount(bins[mask[truth]], minlength=len(WIDTHS)),
        map_all=np.bincount(crack_map.ravel(), minlength=LEVELS),
        map_true=np.bincount(crack_map[truth], minlength=LEVELS),
    )


def local_widths(mask: BoolMask) -> NDArray[np.float32]:
    """Width of the crack at each of the mask's pixels, px, in the order of ``mask.nonzero()``."""
    line = skeletonize(mask)
    depth = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    _, nearest = cv2.distanceTransformWithLabels(
        (~line).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Twice the distance to the background, taken at the nearest pixel of the centreline.
    depth_of = np.zeros(int(nearest.max()) + 1, np.float32)
    depth_of[nearest[line]] = depth[line]
    return 2 * depth_of[nearest[mask]]


def dilate(mask: BoolMask, radius: int) -> BoolMask:
    """Every pixel within ``radius`` px (Euclidean) of a pixel of the bool mask, shape (H, W)."""
    return cv2.dilate(mask.view(np.uint8), disk(radius)).view(np.bool_)
