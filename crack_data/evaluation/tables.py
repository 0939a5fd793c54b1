"""Results as tables: one row per photo (CSV) or per test set (Markdown)."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from ..segmentation import Record
from .instance_metrics import InstanceCounts
from .metrics import PhotoCounts, pixel_statistics

# Heading → task, metric, digits and factor.
_COLUMNS: dict[str, tuple[str, str, int, float]] = {
    "F1": ("crack", "f1", 3, 1),
    "precision": ("crack", "precision", 3, 1),
    "recall": ("crack", "recall", 3, 1),
    "F1, best threshold (ODS)": ("crack", "f1_ods", 3, 1),
    "at": ("crack", "ods_threshold", 2, 1),
    "F1, 2 px": ("crack", "f1_2px", 3, 1),
    "IoU": ("crack", "iou", 3, 1),
    "coverage error, points": ("crack", "coverage_mae", 2, 1),
    "coverage bias, points": ("crack", "coverage_bias", 2, 1),
    "false alarms, %": ("crack", "false_alarm_rate", 1, 100),
    "avF1": ("instances", "avF1", 3, 1),
    "centreline coverage": ("instances", "centreline_coverage", 3, 1),
    "false splits": ("instances", "false_splits", 2, 1),
    "false merges": ("instances", "false_merges", 2, 1),
    "mask AP50": ("segm", "AP50", 1, 1),
    "components": ("instances", "AP50_components", 1, 1),
    "linked": ("instances", "AP50_linked", 1, 1),
    "single": ("instances", "AP50_single", 1, 1),
}
# Of a set of one photo: its own scores.
_PER_PHOTO = ("precision", "recall", "f1", "iou", "precision_2px", "recall_2px", "f1_2px")


def markdown_table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One row per test set, 95 % intervals in parentheses, a dash for what it does not define."""
    body = [
        [name, *(_cell(result.get(column[0], {}), *column[1:]) for column in _COLUMNS.values())]
        for name, result in results.items()
    ]
    return markdown_lines(["test set", *_COLUMNS], body, right=True) + "\n"


def _cell(metrics: Mapping[str, float], name: str, digits: int, factor: float) -> str:
    keys = [key for key in (name, f"{name}_low", f"{name}_high") if key in metrics]
    value, *interval = [f"{factor * metrics[key]:.{digits}f}" for key in keys] or ["–"]
    return f"{value} ({' to '.join(interval)})" if interval else value


def per_photo_csv(
    records: Sequence[Record], photos: Sequence[PhotoCounts], instances: Sequence[InstanceCounts]
) -> bytes:
    """CSV (UTF-8, header first) of N photos' sizes, coverages and scores, in the given order."""
    rows = []
    for record, counts, found in zip(records, photos, instances, strict=True):
        metrics = pixel_statistics([counts])(np.ones((1, 1)))
        values = {
            "height": record["height"],
            "width": record["width"],
            "true_percent": 100 * counts.true / max(counts.area, 1),
            "predicted_percent": 100 * counts.predicted / max(counts.area, 1),
            "coverage_error": metrics["coverage_bias"][0],
            **{key: metrics[key][0] for key in _PER_PHOTO},
            "true_instances": found.true,
            "predicted_instances": found.predicted,
            "false_splits": found.false_splits,
            "false_merges": found.false_merges,
        }
        cells = {key: f"{value:.6g}" for key, value in values.items()}
        rows.append({"file_name": record["file_name"], **cells})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")  # names need not be UTF-8


def markdown_lines(head: Sequence[str], body: Sequence[Sequence[str]], right: bool = False) -> str:
    """A table without a line break at its end; ``right``: where all columns but the first align."""
    rule = ["---", *["---:" if right else "---"] * (len(head) - 1)]
    rows = ([cell.replace("|", "\\|") for cell in row] for row in (head, rule, *body))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
