"""Results as tables: one row per photo (CSV), per test set or per width (Markdown)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ..markdown import markdown_lines
from .counts import PhotoCounts
from .instance_metrics import InstanceCounts
from .metrics import THRESHOLDS, SetCounts, ratio, scores, tolerant_scores

ABSENT = "–"
# Heading → task, and metric, digits and factor.
_COLUMNS = {
    "F1": ("crack", ("f1", 3, 1)),
    "precision": ("crack", ("precision", 3, 1)),
    "recall": ("crack", ("recall", 3, 1)),
    "F1, best threshold (ODS)": ("crack", ("f1_ods", 3, 1)),
    "at": ("crack", ("ods_threshold", 2, 1)),
    "F1, 2 px": ("crack", ("f1_2px", 3, 1)),
    "IoU": ("crack", ("iou", 3, 1)),
    "centreline IoU, 4 px": ("crack", ("centreline_iou_4px", 3, 1)),
    "coverage error, points": ("crack", ("coverage_mae", 2, 1)),
    "coverage bias, points": ("crack", ("coverage_bias", 2, 1)),
    "false alarms, %": ("crack", ("false_alarm_rate", 1, 100)),
    "avF1": ("instances", ("avF1", 3, 1)),
    "centreline coverage": ("instances", ("centreline_coverage", 3, 1)),
    "false splits": ("instances", ("false_splits", 2, 1)),
    "false merges": ("instances", ("false_merges", 2, 1)),
    "mask AP50": ("segm", ("AP50", 1, 1)),
    "components": ("instances", ("AP50_components", 1, 1)),
    "linked": ("instances", ("AP50_linked", 1, 1)),
    "single": ("instances", ("AP50_single", 1, 1)),
}


def markdown_table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One row per test set, 95 % intervals in parentheses, a dash for what a set does not define.

    Args:
        results: test set → its results by task, as `CrackEvaluator.evaluate` returns them.
    """
    body = [
        [name, *(_cell(result.get(task, {}), *how) for task, how in _COLUMNS.values())]
        for name, result in results.items()
    ]
    return markdown_lines(["test set", *_COLUMNS], body, numbers=True) + "\n"


def width_table(widths: Mapping[str, tuple[float, float]]) -> str:
    """Share of the true pixels, and share of them found, by width: a row each.

    Args:
        widths: see `crack_data.evaluation.metrics.recall_by_width`.
    """
    body = [[name, f"{share:.3f}", f"{found:.3f}"] for name, (share, found) in widths.items()]
    return markdown_lines(["width, px", "share of true pixels", "found"], body, numbers=True)


def per_photo_csv(
    names: Sequence[str], photos: Sequence[PhotoCounts], instances: Sequence[InstanceCounts]
) -> bytes:
    """CSV (UTF-8, header first) of N photos' sizes, coverages and scores, in the given order."""
    columns = _photo_columns(photos)
    columns |= {
        "true_instances": [photo.true for photo in instances],
        "predicted_instances": [photo.predicted for photo in instances],
        "false_splits": [photo.false_splits for photo in instances],
        "false_merges": [photo.false_merges for photo in instances],
    }
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file_name", *columns])
    for name, *values in zip(names, *columns.values(), strict=True):
        writer.writerow([name, *(f"{value:.6g}" for value in values)])
    return text.getvalue().encode()


def _photo_columns(photos: Sequence[PhotoCounts]) -> dict[str, Any]:
    counts = SetCounts(photos)
    tolerant = tolerant_scores(
        counts.predicted_near, counts.predicted, counts.true_near, counts.true
    )
    return {
        "height": [photo.height for photo in photos],
        "width": [photo.width for photo in photos],
        "true_percent": 100 * counts.true / counts.area,
        "predicted_percent": 100 * counts.predicted / counts.area,
        "coverage_error": counts.coverage_error(),
        **scores(counts.hit, counts.predicted, counts.true),
        **{f"{name}_2px": value for name, value in tolerant.items()},
        "centreline_iou_4px": ratio(counts.line_hit, counts.line_all),
        "f1_ois": scores(*counts.best_counts())["f1"],
        "ois_threshold": THRESHOLDS[counts.best_cut],
    }


def _cell(metrics: Mapping[str, float], name: str, digits: int, factor: float) -> str:
    if name not in metrics:
        return ABSENT
    text = f"{factor * metrics[name]:.{digits}f}"
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if low is None or high is None:
        return text
    return f"{text} ({factor * low:.{digits}f} to {factor * high:.{digits}f})"
