#!/usr/bin/env python
"""Measure what a faster precision costs in accuracy: a table, and whether it may be the default.

On no data set may it cost more than .003 of pixel F1, or .01 of avF1 or mask AP50, against fp32.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.backbones.accuracy import measure_accuracy
from benchmarks.backbones.rows import Row
from crack_data.config import load_predict_config
from crack_data.errors import run_tool
from crack_data.evaluation.tables import markdown_lines

Accuracy = Mapping[str, Mapping[str, float]]  # by data set and metric

# The largest loss of each, in the metric's own unit: AP50 is of 100.
LIMITS = {"f1": 0.003, "AP50": 1.0, "avF1": 0.01}


def losses_over_limit(fp32: Accuracy, other: Accuracy) -> list[str]:
    """What costs more than it may, as "DATASET METRIC -LOSS"; a metric gone is a loss too."""
    return [
        f"{dataset} {name} {other[dataset][name] - metrics[name]:+.4f}"
        for dataset, metrics in fp32.items()
        for name, limit in LIMITS.items()
        # A set may define no such metric in either precision.
        if not (math.isnan(metrics[name]) or metrics[name] - other[dataset][name] <= limit)
    ]


def table(fp32: Accuracy, other: Accuracy) -> str:
    """Markdown: of each data set all metrics in fp32, and the difference to it."""
    head = ["data set", *(column for name in LIMITS for column in (name, "difference"))]
    body = []
    for dataset, metrics in fp32.items():
        pairs = ((metrics[name], other[dataset][name] - metrics[name]) for name in LIMITS)
        body.append([dataset, *(cell for a, b in pairs for cell in (f"{a:.4f}", f"{b:+.4f}"))])
    return markdown_lines(head, body, right=True)


def main() -> int:
    """Evaluate in both precisions; 1 where the faster costs too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", metavar="YAML", help="default: the shipped model's")
    parser.add_argument("--dataset", nargs="+", required=True, metavar="NAME")
    parser.add_argument(
        "--precision", choices=("auto", "bf16"), default="auto",
        help="CRACK.INFERENCE.PRECISION to compare with fp32 (default: auto, where bf16 is native)",
    )  # fmt: skip
    given = parser.parse_args()
    rows = []
    for precision in ("fp32", given.precision):
        cfg = load_predict_config(given.config_file)
        cfg.CRACK.INFERENCE.PRECISION = precision
        rows.append(Row(precision, cfg, True))
    fp32, other = measure_accuracy(rows, given.dataset).values()
    print(table(fp32, other))
    found = losses_over_limit(fp32, other)
    verdict = "costs too much: " + ", ".join(found) if found else "may be the default"
    print(f"{given.precision} {verdict}")
    return 1 if found else 0


if __name__ == "__main__":
    run_tool(main)
