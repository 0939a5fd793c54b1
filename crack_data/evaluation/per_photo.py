"""The table with one row per photo, to find out where a model fails."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from .pixel_metrics import PhotoCounts
from .set_metrics import THRESHOLDS, SetCounts, ratio, scores, tolerant_scores


def per_photo_csv(names: Sequence[str], photos: Sequence[PhotoCounts]) -> bytes:
    """CSV (UTF-8, header first) of N photos' sizes, coverages and scores, in the given order."""
    columns = _columns(photos)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file_name", *columns])
    for name, *values in zip(names, *columns.values(), strict=True):
        writer.writerow([name, *(f"{value:.6g}" for value in values)])
    return text.getvalue().encode()


def _columns(photos: Sequence[PhotoCounts]) -> dict:
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
