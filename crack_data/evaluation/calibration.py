"""Calibration: thresholds and an interval for the percentage, chosen on labelled photos.

The interval is by split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates 2021,
arXiv:2107.07511): quantiles of the photos' errors, each divided by the spread that the crack map
itself shows, so that sure photos get narrow intervals. Photos of one group count together as one,
since they resemble each other.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from scipy.special import betaincinv

from .. import storage
from ..calibration import (
    DEFAULT_SCORE_THRESHOLD,
    DEFAULT_THRESHOLD,
    Calibration,
    Interval,
    spread,
)
from ..convert.splits import group_of
from ..datasets import read_photo_of
from ..errors import CrackError
from ..inference.predictor import CrackPredictor
from ..segmentation import Record, ignored_pixels, union_mask
from .evaluator import counted_instances
from .metrics import at_or_above

logger = logging.getLogger(__name__)

_LEVEL = 0.9  # share of photos whose true percentage the interval holds
_MIN_GROUPS = 40  # for it: the 5 % tails need 19 values each


class CalibrationPhoto(NamedTuple):
    """What calibration keeps of one labelled photo."""

    group: str  # photos of one group count as one
    true_percent: float  # share of the photo that is crack, x 100
    levels: np.ndarray  # (256,) pixels by level of the crack map, x 255
    spread: float  # see `crack_data.calibration.spread`


def calibrate(cfg: CfgNode, group_by: str = "", false_alarm_rate: float = 0.02) -> Calibration:
    """Calibrate MODEL.WEIGHTS on DATASETS.TEST, which are registered.

    ``cfg`` is for prediction; the thresholds of MODEL.CRACK_MAP that it sets are kept. Photos whose
    names agree in ``group_by``, as `group_of` reads it, are one group; others each their own.
    """
    group_of("photo", group_by)  # refuses a broken pattern before the work
    records = [record for name in cfg.DATASETS.TEST for record in DatasetCatalog.get(name)]
    cfg = cfg.clone()
    keys = cfg.MODEL.CRACK_MAP
    score, threshold = keys.SCORE_THRESHOLD, keys.THRESHOLD
    # At the lowest pixel threshold that may be chosen, at which most false alarms are drawn.
    keys.THRESHOLD = threshold if threshold >= 0 else keys.LINK_THRESHOLD
    keys.SCORE_THRESHOLD = 0.0
    predictor = build_predictor(cfg)
    if score < 0:
        best = []
        for record in records:
            ignored = ignored_pixels(record)
            if not ignored.all() and not union_mask(record)[~ignored].any():
                found = counted_instances(predictor(read_photo_of(record)).instances, ignored)
                best.append(max((x.score for x in found), default=0.0))
        score = choose_score_threshold(best, false_alarm_rate)
    predictor.score_threshold, predictor.threshold = score, DEFAULT_THRESHOLD
    photos = list(measure_photos(predictor, records, group_by))
    if threshold < 0:
        threshold = unbiased_threshold(photos, keys.LINK_THRESHOLD)
    alarmed = [predicted_percent(x.levels, threshold) > 0 for x in photos if not x.true_percent]
    return Calibration(
        weights=storage.fingerprint(cfg.MODEL.WEIGHTS)["sha256"],
        score_threshold=score,
        threshold=threshold,
        false_alarm_rate=float(np.mean(alarmed or [False])),
        false_alarm_bound=rate_bound(int(sum(alarmed)), len(alarmed)),
        crack_free_photos=len(alarmed),
        photos=len(photos),
        groups=len({photo.group for photo in photos}),
        interval=fit_interval(photos, threshold),
    )


def build_predictor(cfg: CfgNode) -> CrackPredictor:
    """The predictor of a config; a `CrackError` where it draws no map to calibrate."""
    predictor = CrackPredictor(cfg)
    if not predictor.draws_map:
        name = cfg.MODEL.META_ARCHITECTURE
        raise CrackError(f"MODEL.META_ARCHITECTURE {name} draws no crack map to calibrate")
    return predictor


def measure_photos(
    predictor: CrackPredictor, records: Sequence[Record], group_by: str
) -> Iterator[CalibrationPhoto]:
    """Predict labelled photos, and keep what calibration needs of each."""
    for record in records:
        counted = ~ignored_pixels(record)
        if not counted.any():
            logger.warning(f"{record['file_name']} is ignored wholly, and left out")
            continue
        prediction = predictor(read_photo_of(record))
        yield CalibrationPhoto(
            group=group_of(record["file_name"], group_by),
            true_percent=100.0 * float(union_mask(record)[counted].mean()),
            levels=np.bincount(prediction.probability[counted], minlength=256),
            spread=spread(prediction.levels),
        )


def choose_score_threshold(best_scores: Sequence[float], rate: float) -> float:
    """The lowest threshold at which at most ``rate`` of the crack-free photos' best scores pass."""
    if not best_scores:
        raise CrackError(
            "no photo of DATASETS.TEST is without crack; add crack-free ones, or choose the score "
            "threshold yourself: MODEL.CRACK_MAP.SCORE_THRESHOLD 0.5"
        )
    scores = np.sort(np.asarray(best_scores, float))[::-1]
    allowed = int(rate * len(scores) + 1e-9)
    if allowed < len(scores) and not scores[allowed]:
        logger.warning(
            "Hardly a photo without crack has anything scored: they tell no score threshold, and "
            f"it stays {DEFAULT_SCORE_THRESHOLD}; add photos of what may pass for cracks"
        )
        return DEFAULT_SCORE_THRESHOLD
    # Above the best score that may not pass by what another precision may add to it, and never so
    # high that nothing passes.
    highest = float(scores[allowed]) if allowed < len(scores) else 0.0
    return min(math.ceil(1e3 * highest + 2) / 1e3, 0.999)


def rate_bound(count: int, total: int) -> float:
    """The upper 95 % bound (Clopper and Pearson 1934) of a rate seen in ``count`` of ``total``."""
    return float(betaincinv(count + 1, total - count, 0.95)) if count < total else 1.0


def unbiased_threshold(photos: Sequence[CalibrationPhoto], lowest: float = 0.0) -> float:
    """The pixel threshold at which half of the photos are predicted too large, half too small.

    Of those on which cracks were found: others drawn wider do not mend a crack that is missed.
    Thresholds lie between two levels of the 8-bit crack map, from ``lowest`` on, below which the
    map is no crack. A warning says where that is too high.
    """
    found = [x for x in photos if x.true_percent > 0 and x.levels[1:].any()]
    if not found:
        raise CrackError(
            "the model finds no cracks on DATASETS.TEST; there is nothing to calibrate"
        )
    true, pixels = np.array([[x.true_percent, x.levels.sum()] for x in found]).T
    above = at_or_above([x.levels for x in found]) / pixels[:, None]
    first = int(255 * lowest)
    bias = np.median(100.0 * above - true[:, None], axis=0)[first:]
    threshold = float((np.argmin(np.abs(bias)) + first + 0.5) / 255.0)
    if bias[0] < 0:
        logger.warning(
            "labels are wider than the model draws: at the lowest pixel threshold, "
            f"{threshold:.3f}, half of the photos are predicted {-bias[0]:.2f} points too small"
        )
    return threshold


def fit_interval(photos: Sequence[CalibrationPhoto], threshold: float) -> Interval | None:
    """The conformal interval for a pixel threshold; None where there are too few groups for one."""
    sizes = Counter(photo.group for photo in photos)
    if len(sizes) < _MIN_GROUPS:
        logger.warning(
            f"{len(sizes)} groups of photos are too few for an interval of the percentage; "
            f"{_MIN_GROUPS} are needed"
        )
        return None
    errors = np.array(
        [(x.true_percent - predicted_percent(x.levels, threshold)) / x.spread for x in photos]
    )
    weights = np.array([1.0 / sizes[photo.group] for photo in photos])
    tail = (1.0 - _LEVEL) / 2.0
    low, high = -_quantile(-errors, weights, tail), _quantile(errors, weights, tail)
    return Interval(_LEVEL, low, high)


def predicted_percent(levels: np.ndarray, threshold: float) -> float:
    """Share of pixels whose level exceeds a threshold in [0, 1], x 100."""
    return 100.0 * float(levels[np.arange(256) > 255.0 * threshold].sum()) / max(levels.sum(), 1)


def _quantile(values: np.ndarray, weights: np.ndarray, tail: float) -> float:
    """The value that at most ``tail`` of the groups exceed, corrected for their finite number."""
    # The photo to come counts as one more group, whose error may be as large as any.
    values, weights = np.append(values, values.max()), np.append(weights, 1.0)
    return float(np.quantile(values, 1.0 - tail, weights=weights, method="inverted_cdf"))
