"""Accuracy of the benchmark's rows on data sets, each by its own path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from crack_data.datasets import register_datasets_of
from crack_data.errors import CrackError
from crack_data.evaluation.evaluator import evaluate_dataset
from crack_data.inference.predictor import CrackPredictor

from .rows import Row

# The figure's name here, and where the evaluation keeps it.
_KEYS = {
    "AP": ("segm", "AP"),
    "AP50": ("segm", "AP50"),
    "avF1": ("instances", "avF1"),
    "f1": ("crack", "f1"),
    "coverage error": ("crack", "coverage_mae"),
}


def measure_accuracy(
    rows: Sequence[Row], datasets: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluate the rows that have trained weights.

    Args:
        rows: what the benchmark compares.
        datasets: names in DatasetCatalog, or COCO JSONs.

    Returns:
        for each row's name and each data set AP and AP50 (of 100), avF1, pixel F1 and the mean
        coverage error in percentage points.

    Raises:
        CrackError: no such data set, or no row has trained weights.
    """
    trained = [row for row in rows if row.trained]
    if not trained:
        raise CrackError("no model has a checkpoint, so there is no accuracy to measure")
    return {row.name: _evaluate(row, datasets) for row in trained}


def _evaluate(row: Row, datasets: Sequence[str]) -> dict[str, dict[str, float]]:
    cfg = row.cfg.clone()
    cfg.DATASETS.TEST = tuple(datasets)
    register_datasets_of(cfg, ("TEST",))
    accuracy = {}
    with TemporaryDirectory() as folder:  # a training's own evaluation may lie in OUTPUT_DIR
        cfg.OUTPUT_DIR = folder
        predictor = CrackPredictor(cfg)
        for dataset in datasets:
            results = evaluate_dataset(predictor, dataset, predictor.cfg)
            # A set without cracks has no average precision.
            accuracy[dataset] = {
                name: results.get(task, {}).get(key, math.nan)
                for name, (task, key) in _KEYS.items()
            }
    return accuracy
