"""From the photos' counts to the flat metric dictionary: point estimates and intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bootstrap import bootstrap_intervals
from .pixel_metrics import PhotoCounts
from .set_metrics import SetCounts

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


def summarize(photos: Sequence[PhotoCounts]) -> dict[str, float]:
    """All metrics of a set of at least one photo, by the names in docs/evaluation.md."""
    counts = SetCounts(photos)
    everyone = np.ones((1, len(photos)))
    result = {name: float(value[0]) for name, value in counts.metrics(everyone).items()}
    intervals = bootstrap_intervals(len(photos), counts.metrics)
    for name in WITH_INTERVAL:
        if name in intervals:
            result[f"{name}_low"], result[f"{name}_high"] = intervals[name]
    return result
