"""Percentile bootstrap over photos (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).

Photos are drawn with replacement, never pixels: pixels of one photo depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 20190210
# Resamples evaluated together: bounds the memory to a few MB per thousand photos.
CHUNK = 100


def bootstrap_intervals(
    photos: int, statistics: Callable[[Array], dict[str, Array]]
) -> dict[str, tuple[float, float]]:
    """Lower and upper bound of the 95 % interval of every statistic.

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
