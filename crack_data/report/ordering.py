"""Which pairs a person should look at first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..convert.records import PairRecord

MEASURES = ("instances", "coverage", "mean_width")


def worst_first(records: list[PairRecord]) -> list[PairRecord]:
    """Flagged pairs, those with most flags first, then the others, the most unusual first.

    How unusual a pair is: the largest robust z-score (distance from the median in median absolute
    deviations) of its number of instances, its coverage and its mean width.
    """
    if not records:
        return []
    unusual = _unusual(records)
    order = sorted(
        range(len(records)),
        key=lambda i: (-len(records[i].flags), -unusual[i], records[i].photo),
    )
    return [records[i] for i in order]


def _unusual(records: list[PairRecord]) -> npt.NDArray[np.float64]:
    values = np.array([[getattr(r, name) for name in MEASURES] for r in records], np.float64)
    distances = np.abs(values - np.median(values, axis=0))
    scale = np.median(distances, axis=0)
    # Where more than half of the pairs agree, the mean deviation stands in for a median of 0.
    scale = np.where(scale > 0, scale, np.mean(distances, axis=0))
    scores: npt.NDArray[np.float64] = (distances / np.where(scale > 0, scale, 1)).max(axis=1)
    return scores
