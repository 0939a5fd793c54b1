"""The counts of all photos of a test set, reduced to its pixel metrics, with intervals.

Metrics take weights of shape (R, N): R resamples of N photos, saying how often a photo was drawn.
A row of ones gives the metric itself, so that the bootstrap runs the same code. Definitions and
sources: docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .counts import LEVELS, WIDTHS, PhotoCounts

Array = NDArray[np.float64]
Statistics = Callable[[Array], dict[str, Array]]

# Metrics reported with a 95 % interval, as NAME_low and NAME_high.
WITH_INTERVAL = (
    "f1",
    "precision",
    "recall",
    "iou",
    "f1_photo",
    "f1_ods",
    "f1_ois",
    "f1_2px",
    "centreline_iou_4px",
    "coverage_mae",
    "coverage_bias",
    "false_alarm_rate",
)
RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 20190210
# Resamples evaluated together: bounds the memory to a few MB per thousand photos.
CHUNK = 100
# Levels 1..255 as cuts: a pixel is crack when its level is at least the cut.
CUTS = np.arange(1, LEVELS)
# The crack map is rounded to levels, so "level >= cut" is "probability > (cut - 0.5) / 255".
THRESHOLDS = (CUTS - 0.5) / (LEVELS - 1)


def summarize(photos: Sequence[PhotoCounts]) -> dict[str, float]:
    """Pixel metrics of a set of at least one photo, by the names in docs/evaluation.md."""
    return with_intervals(len(photos), SetCounts(photos).metrics, WITH_INTERVAL)


def recall_by_width(photos: Sequence[PhotoCounts]) -> dict[str, tuple[float, float]]:
    """Range of local width, such as "3-6" px → share of the true pixels in it, share of them found.

    Ranges without a true pixel are left out.
    """
    true = np.sum([photo.width_true for photo in photos], axis=0)
    hit = np.sum([photo.width_hit for photo in photos], axis=0)
    ends = [f"-{end}" for end in WIDTHS[1:]]
    names = [f"{low}{end}" for low, end in zip(WIDTHS, [*ends, " and more"], strict=True)]
    rows = zip(names, true.tolist(), hit.tolist(), strict=True)
    return {name: (part / true.sum(), found / part) for name, part, found in rows if part}


def with_intervals(
    photos: int, statistics: Statistics, with_interval: Sequence[str]
) -> dict[str, float]:
    """Metrics of a set, each as NAME, and those of ``with_interval`` as NAME_low and NAME_high too.

    Args:
        photos: how many photos the set has, at least one.
        statistics: as for `bootstrap_intervals`.
        with_interval: names; those that the set does not define are passed over.
    """
    everyone = statistics(np.ones((1, photos)))
    result = {name: float(value[0]) for name, value in everyone.items()}
    intervals = bootstrap_intervals(photos, statistics)
    for name in with_interval:
        if name in intervals:
            result[f"{name}_low"], result[f"{name}_high"] = intervals[name]
    return result


def bootstrap_intervals(photos: int, statistics: Statistics) -> dict[str, tuple[float, float]]:
    """Lower and upper bound of the 95 % interval of every statistic: percentile bootstrap.

    Photos are drawn with replacement, never pixels: pixels of one photo depend on each other.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.

    Args:
        photos: how many photos the set has, at least one.
        statistics: takes weights of shape (R, photos), how often each photo was drawn, and gives
            one array of shape (R,) per name. NaN (a resample that does not define a statistic)
            is left out.
    """
    drawn = [statistics(weights) for weights in _resamples(photos)]
    tail = 50 * (1 - CONFIDENCE)
    bounds = {}
    for name in drawn[0]:
        values = np.concatenate([chunk[name] for chunk in drawn])
        low, high = np.percentile(values[~np.isnan(values)], [tail, 100 - tail])
        bounds[name] = (float(low), float(high))
    return bounds


def _resamples(photos: int) -> Iterator[Array]:
    generator = np.random.default_rng(SEED)
    shares = np.full(photos, 1 / photos)
    for _ in range(RESAMPLES // CHUNK):
        yield generator.multinomial(photos, shares, size=CHUNK).astype(np.float64)


class SetCounts:
    """Counts of N photos as arrays; `metrics` combines them."""

    def __init__(self, photos: Sequence[PhotoCounts]) -> None:
        """Stack at least one photo's counts."""
        self.true = _column(photos, "true")
        self.area = np.maximum(_column(photos, "area"), 1)
        self.predicted = _column(photos, "predicted")
        self.hit = _column(photos, "hit")
        self.predicted_near = _column(photos, "predicted_near")
        self.true_near = _column(photos, "true_near")
        self.line_hit = _column(photos, "line_tp")
        self.line_all = self.line_hit + _column(photos, "line_fp") + _column(photos, "line_fn")
        # Shape (N, 255): pixels at or above each cut.
        self.cut_predicted = _at_cuts(photos, "map_all")
        self.cut_hit = _at_cuts(photos, "map_true")
        self.cut_predicted_near = _at_cuts(photos, "map_near")
        self.cut_true_near = _at_cuts(photos, "reach_true")
        # Index into THRESHOLDS of each photo's best F1, shape (N,).
        self.best_cut = last_argmax(_f1(self.cut_hit, self.cut_predicted, self.true[:, None]))

    def metrics(self, weights: Array) -> dict[str, Array]:
        """Every metric, each of shape (R,), for weights of shape (R, N).

        A metric is left out when no photo defines it: those averaged per photo in a set without
        cracks, and false alarms in a set without crack-free photos.
        """
        result = self._drawn(weights)
        result |= self._best_over_set(weights)
        result |= self._best_per_photo(weights)
        result |= self._tolerant(weights)
        result["centreline_iou_4px"] = ratio(weights @ self.line_hit, weights @ self.line_all)
        result |= self._coverage(weights)
        return result

    def _drawn(self, weights: Array) -> dict[str, Array]:
        counts = self.hit, self.predicted, self.true
        return self._pooled_and_per_photo(weights, counts, "")

    def _best_over_set(self, weights: Array) -> dict[str, Array]:
        hit, predicted = pool(weights, self.cut_hit), pool(weights, self.cut_predicted)
        true = weights @ self.true
        best = last_argmax(_f1(hit, predicted, true[:, None]))
        pooled = scores(_pick(hit, best), _pick(predicted, best), true)
        result = {f"{name}_ods": value for name, value in pooled.items()}
        result["ods_threshold"] = THRESHOLDS[best]
        per_photo = scores(self.cut_hit.T[best], self.cut_predicted.T[best], self.true)
        return result | self._per_photo(weights, per_photo, "_ods")

    def _best_per_photo(self, weights: Array) -> dict[str, Array]:
        return self._pooled_and_per_photo(weights, self.best_counts(), "_ois")

    def _tolerant(self, weights: Array) -> dict[str, Array]:
        true = weights @ self.true
        drawn = tolerant_scores(
            weights @ self.predicted_near,
            weights @ self.predicted,
            weights @ self.true_near,
            true,
        )
        result = {f"{name}_2px": value for name, value in drawn.items()}
        swept = tolerant_scores(
            pool(weights, self.cut_predicted_near),
            pool(weights, self.cut_predicted),
            pool(weights, self.cut_true_near),
            true[:, None],
        )["f1"]
        best = last_argmax(swept)
        return result | {"f1_2px_ods": _pick(swept, best), "ods_2px_threshold": THRESHOLDS[best]}

    def _coverage(self, weights: Array) -> dict[str, Array]:
        error = self.coverage_error()
        result = {
            "coverage_mae": mean(weights, np.abs(error)),
            "coverage_bias": mean(weights, error),
        }
        free = self.true == 0
        if free.any():
            result["false_alarm_rate"] = mean(weights[:, free], self.predicted[free] > 0)
        return result

    def coverage_error(self) -> Array:
        """Predicted minus true share of the photo, percentage points, shape (N,)."""
        return 100 * (self.predicted - self.true) / self.area

    def best_counts(self) -> tuple[Array, Array, Array]:
        """Hit, predicted and true pixels at each photo's best threshold, shape (N,) each."""
        hit = _pick(self.cut_hit, self.best_cut)
        return hit, _pick(self.cut_predicted, self.best_cut), self.true

    def _pooled_and_per_photo(
        self, weights: Array, counts: tuple[Array, Array, Array], suffix: str
    ) -> dict[str, Array]:
        pooled = scores(*(weights @ column for column in counts))
        result = {f"{name}{suffix}": value for name, value in pooled.items()}
        return result | self._per_photo(weights, scores(*counts), suffix)

    def _per_photo(self, weights: Array, per_photo: dict[str, Array], suffix: str) -> dict:
        """Means over the photos with a crack; values of shape (N,) or (R, N)."""
        cracked = self.true > 0
        if not cracked.any():
            return {}
        return {
            f"{name}{suffix}_photo": mean(weights[:, cracked], value[..., cracked])
            for name, value in per_photo.items()
        }


def scores(hit: Array, predicted: Array, true: Array) -> dict[str, Array]:
    """Precision, recall, F1 and IoU from pixel counts of any one shape."""
    return {
        "precision": ratio(hit, predicted),
        "recall": ratio(hit, true),
        "f1": _f1(hit, predicted, true),
        "iou": ratio(hit, predicted + true - hit),
    }


def tolerant_scores(
    predicted_near: Array, predicted: Array, true_near: Array, true: Array
) -> dict[str, Array]:
    """Precision, recall and F1 where near misses count, from pixel counts of any one shape."""
    precision = ratio(predicted_near, predicted)
    recall = ratio(true_near, true)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return {"precision": precision, "recall": recall, "f1": f1}


def ratio(part: Array, whole: Array) -> Array:
    """Element-wise part / whole; 0 / 0 counts as 1: nothing was claimed, nothing is wrong."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def last_argmax(values: Array) -> NDArray[np.intp]:
    """Index of the maximum along the last axis; of equals the last, the strictest threshold."""
    return values.shape[-1] - 1 - np.argmax(values[..., ::-1], axis=-1)


def _f1(hit: Array, predicted: Array, true: Array) -> Array:
    return ratio(2 * hit, predicted + true)


def pool(weights: Array, counts: Array) -> Array:
    """Counts of shape (N, K) summed over each resample's photos: shape (R, K).

    Not ``@``: for matrices this small a threaded BLAS waits for its threads more than it
    computes, ten times longer where other work keeps the cores busy.
    """
    return np.einsum("rn,nk->rk", weights, counts)


def _pick(values: Array, index: NDArray[np.intp]) -> Array:
    return np.take_along_axis(values, index[:, None], axis=1)[:, 0]


def mean(weights: Array, values: Array) -> Array:
    """Weighted means, shape (R,); NaN where a resample drew none of the photos."""
    total = weights.sum(axis=1)
    summed = (weights * values).sum(axis=1)
    return np.divide(summed, total, out=np.full_like(total, np.nan), where=total > 0)


def _column(photos: Sequence[PhotoCounts], name: str) -> Array:
    return np.array([getattr(photo, name) for photo in photos], dtype=np.float64)


def _at_cuts(photos: Sequence[PhotoCounts], name: str) -> Array:
    histograms = np.stack([getattr(photo, name) for photo in photos])
    return np.cumsum(histograms[:, ::-1], axis=1)[:, ::-1][:, 1:].astype(np.float64)
