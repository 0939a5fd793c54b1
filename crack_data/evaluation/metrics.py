"""From pixels to metrics: one photo's counts, and the metrics of a set of them, with intervals.

Every pixel metric of a test set is a function of its photos' counts, a few kilobytes a photo, which
can be resampled afterwards. Metrics take weights of shape (R, N): R resamples of N photos, saying
how often a photo was drawn. A row of ones gives the metric itself, so that the bootstrap runs the
same code. Definitions and sources: docs/evaluation.md.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.morphology import disk, skeletonize

PIXEL_TOLERANCE = 2
LEVELS = 256
# Lower bounds, px, of the ranges of local width that recall is broken down by.
WIDTHS = (0, 3, 6, 12, 25, 50)

BoolMask = NDArray[np.bool_]
Counts = NDArray[np.integer]
Array = NDArray[np.float64]
Statistics = Callable[[Array], dict[str, Array]]

WITHOUT_INTERVAL = ("ods_threshold", "precision_2px", "recall_2px")
WIDTH_RANGES = [*map("{}-{}".format, WIDTHS, WIDTHS[1:]), f"{WIDTHS[-1]} and more"]
# Levels 1..255 as cuts, where a pixel is crack when its level is at least the cut. The crack map
# is rounded to levels, so "level >= cut" is "probability > (cut - 0.5) / 255".
THRESHOLDS = (np.arange(1, LEVELS) - 0.5) / (LEVELS - 1)


class PhotoCounts(NamedTuple):
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


def summarize(photos: Sequence[PhotoCounts]) -> dict[str, float]:
    """Pixel metrics of a set of at least one photo, by the names in docs/evaluation.md."""
    return with_intervals(len(photos), pixel_statistics(photos))


def recall_by_width(photos: Sequence[PhotoCounts]) -> dict[str, tuple[float, float]]:
    """Non-empty range of local width, "3-6" px → share of true pixels, share of them found."""
    true = np.sum([photo.width_true for photo in photos], axis=0)
    hit = np.sum([photo.width_hit for photo in photos], axis=0)
    rows = zip(WIDTH_RANGES, true.tolist(), hit.tolist(), strict=True)
    return {name: (t / true.sum(), h / t) for name, t, h in rows if t}


def pixel_statistics(photos: Sequence[PhotoCounts]) -> Statistics:
    """A function that gives every metric, shape (R,), for weights of shape (R, N)."""
    columns = (np.array(column, float) for column in zip(*photos, strict=True))
    area, true, predicted, hit, predicted_near, true_near, *_, map_all, map_true = columns
    error = 100 * (predicted - true) / np.maximum(area, 1)  # percentage points
    is_free = true == 0
    predicted_at, hit_at = at_or_above(map_all), at_or_above(map_true)

    def statistics(weights: Array) -> dict[str, Array]:
        t, p, h = (weights @ column for column in (true, predicted, hit))
        f1_at = ratio(2 * pool(weights, hit_at), pool(weights, predicted_at) + t[:, None])
        precision, recall = ratio(weights @ predicted_near, p), ratio(weights @ true_near, t)
        total = precision + recall
        result = {
            "precision": ratio(h, p),
            "recall": ratio(h, t),
            "f1": ratio(2 * h, p + t),
            "iou": ratio(h, p + t - h),
            "f1_ods": f1_at.max(axis=1),
            # Of equals the highest.
            "ods_threshold": THRESHOLDS[::-1][np.argmax(f1_at[:, ::-1], axis=1)],
            "precision_2px": precision,
            "recall_2px": recall,
            "f1_2px": np.where(total > 0, 2 * precision * recall / np.maximum(total, 1e-300), 0),
            "coverage_mae": mean(weights, np.abs(error)),
            "coverage_bias": mean(weights, error),
        }
        if is_free.any():
            result["false_alarm_rate"] = mean(weights[:, is_free], predicted[is_free] > 0)
        return result

    return statistics


def at_or_above(levels: ArrayLike) -> Array:
    """Pixels at or above each of the levels 1..255, (N, 255), of N photos' counts by level."""
    return np.cumsum(np.array(levels, float)[:, ::-1], axis=1)[:, ::-1][:, 1:]


def with_intervals(photos: int, statistics: Statistics) -> dict[str, float]:
    """Metrics of so many photos, and NAME_low and NAME_high but for `WITHOUT_INTERVAL`.

    These are the bounds of the 95 % interval by the percentile bootstrap (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993). Photos are drawn, never pixels, which depend on each
    other. NaN, a resample that does not define a metric, is left out.
    """
    result = {name: float(value[0]) for name, value in statistics(np.ones((1, photos))).items()}
    rng = np.random.default_rng(20190210)
    drawn = rng.multinomial(photos, np.full(photos, 1 / photos), size=1000)
    resampled = statistics(drawn.astype(np.float64))
    for name, values in resampled.items():
        if name not in WITHOUT_INTERVAL:
            bounds = np.nanpercentile(values, [2.5, 97.5]).tolist()
            result[f"{name}_low"], result[f"{name}_high"] = bounds
    return result


def ratio(part: Array, whole: Array) -> Array:
    """Element-wise part / whole; 0 / 0 counts as 1: nothing was claimed, nothing is wrong."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def pool(weights: Array, counts: Array) -> Array:
    """Counts of shape (N, K) summed over each resample's photos: shape (R, K)."""
    # Not @: a threaded BLAS waits for its threads, ten times longer on busy cores.
    return np.einsum("rn,nk->rk", weights, counts)


def mean(weights: Array, values: NDArray[Any]) -> Array:
    """Weighted means, shape (R,); NaN where a resample drew none of the photos."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        return (weights * values).sum(axis=1) / weights.sum(axis=1)
