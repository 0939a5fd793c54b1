"""Accuracy of the benchmark's rows on a data set, each by its own path."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crack_data.datasets import register_datasets_of
from crack_data.errors import CrackError
from crack_data.evaluation import evaluate_dataset
from crack_data.inference.predictor import CrackPredictor

from .rows import Row

# The figure's name here, and where the evaluation keeps it.
_KEYS = {
    "AP": ("segm", "AP"),
    "AP50": ("segm", "AP50"),
    "f1": ("crack", "f1"),
    "coverage error": ("crack", "coverage_mae"),
}


def measure_accuracy(rows: Sequence[Row], dataset: str) -> dict[str, dict[str, float]]:
    """Evaluate the rows that have trained weights.

    Args:
        rows: what the benchmark compares.
        dataset: a name in DatasetCatalog, or a COCO JSON.

    Returns:
        for each row's name AP and AP50 (of 100), pixel F1 and the mean coverage error in
        percentage points.

    Raises:
        CrackError: no such data set, or no row has trained weights.
    """
    trained = [row for row in rows if row.trained]
    if not trained:
        raise CrackError("no model has a checkpoint, so there is no accuracy to measure")
    return {row.name: _evaluate(row, dataset) for row in trained}


def _evaluate(row: Row, dataset: str) -> dict[str, float]:
    cfg = row.cfg.clone()
    cfg.DATASETS.TEST = (dataset,)
    register_datasets_of(cfg, ("TEST",))
    results = evaluate_dataset(CrackPredictor(cfg), dataset, cfg)
    # A set without cracks has no average precision.
    return {name: results.get(task, {}).get(key, math.nan) for name, (task, key) in _KEYS.items()}
