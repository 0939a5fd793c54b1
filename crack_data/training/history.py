"""metrics.json: read, and cut back to where a resumed run takes over."""

from __future__ import annotations

import json
import os
from typing import Any

from ..files import atomic_write


def read_metrics(path: str) -> list[dict[str, Any]]:
    """The lines of a metrics.json, without one that a kill has cut off; [] where it is missing."""
    if not os.path.isfile(path):
        return []
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows


def cut_metrics(path: str, start: int) -> None:
    """Drop what was written for iteration ``start`` and later: it will be written again."""
    if not os.path.isfile(path):
        return
    kept = [row for row in read_metrics(path) if row["iteration"] < start]
    with atomic_write(path) as file:
        file.writelines(json.dumps(row, sort_keys=True).encode() + b"\n" for row in kept)


def series(rows: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Iterations and values of one metric."""
    points = [(row["iteration"], row[name]) for row in rows if name in row]
    return [point[0] for point in points], [point[1] for point in points]
