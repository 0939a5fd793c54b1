"""What a training leaves to read: metrics.json, curves.png and summary.md."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from detectron2.config import CfgNode
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import atomic_write
from ..markdown import markdown_lines

Rows = list[dict[str, Any]]

# The metrics that the page shows, of those there are.
SHOWN = (
    "crack/f1",
    "crack/f1_ods",
    "crack/precision",
    "crack/recall",
    "crack/f1_2px",
    "crack/coverage_mae",
    "crack/false_alarm_rate",
    "segm/AP50",
    "bbox/AP50",
    "validation/total_loss",
)


def read_metrics(path: str) -> Rows:
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


def series(rows: Rows, name: str) -> tuple[list[int], list[float]]:
    """Iterations and values of one metric."""
    points = [(row["iteration"], row[name]) for row in rows if name in row]
    return [point[0] for point in points], [point[1] for point in points]


def draw_curves(rows: Rows, best_metric: str, path: str) -> None:
    """Draw what metrics.json holds.

    Args:
        rows: of `read_metrics`.
        best_metric: CRACK.BEST_METRIC, drawn over the F1 and AP50 values.
        path: PNG to write.
    """
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _draw_totals(axes[0, 0], rows)
    _draw_parts(axes[0, 1], rows)
    _draw_metrics(axes[1, 0], rows, best_metric)
    _draw_rates(axes[1, 1], rows)
    for axis in axes.flat:
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)


def _draw_totals(axis: Axes, rows: Rows) -> None:
    axis.set_title("total loss")
    axis.plot(*series(rows, "total_loss"), label="training")
    validation = series(rows, "validation/total_loss")
    if validation[0]:
        axis.plot(*validation, marker="o", label="validation")
    axis.legend()


def _draw_parts(axis: Axes, rows: Rows) -> None:
    axis.set_title("training losses")
    axis.set_yscale("log")
    names = sorted({name for row in rows for name in row if name.startswith("loss_")})
    for name in names:
        axis.plot(*series(rows, name), label=name.removeprefix("loss_"))
    if names:
        axis.legend()


def _draw_metrics(axis: Axes, rows: Rows, best_metric: str) -> None:
    axis.set_title("evaluation")
    axis.set_ylim(0, 1)
    for name in dict.fromkeys([best_metric, "crack/f1", "crack/f1_ods", "segm/AP50", "bbox/AP50"]):
        iterations, values = series(rows, name)
        if "/AP" in name:  # Detectron2 gives percent
            name, values = f"{name} / 100", [value / 100 for value in values]
        if values:
            axis.plot(iterations, values, marker="o", label=name)
    if axis.lines:
        axis.legend()


def _draw_rates(axis: Axes, rows: Rows) -> None:
    axis.set_title("learning rate (line), photos per second (dots)")
    axis.plot(*series(rows, "lr"))
    axis.set_ylim(bottom=0)
    other = axis.twinx()
    other.plot(*series(rows, "[metric]img_per_s"), ".", color="tab:orange")
    other.set_ylim(bottom=0)


def write_summary(cfg: CfgNode, rows: Rows, outcome: Mapping[str, Any], path: str) -> None:
    """Write the page.

    Args:
        cfg: the training's config.
        rows: of `read_metrics`.
        outcome: "iterations", "photos", "parameters", "bad" (file name to reason),
            "best_iteration" of CRACK.BEST_METRIC (-1: it was never computed),
            "ended_early".
        path: Markdown file to write.
    """
    text = "\n\n".join(
        [
            "# Training summary",
            _facts(cfg, rows, outcome),
            _metrics(cfg, rows, outcome),
            _photos(outcome),
            "![curves](curves.png)",
        ]
    )
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")


def _facts(cfg: CfgNode, rows: Rows, outcome: Mapping[str, Any]) -> str:
    seconds = series(rows, "time")[1]
    speed = cfg.SOLVER.IMS_PER_BATCH / (sum(seconds) / len(seconds)) if seconds else 0.0
    duration = sum(seconds) / len(seconds) * outcome["iterations"] if seconds else 0.0
    end = "ended early" if outcome["ended_early"] else "ran to its end"
    facts = {
        "model": f"{cfg.MODEL.META_ARCHITECTURE} on {cfg.MODEL.BACKBONE.NAME}, "
        f"{outcome['parameters'] / 1e6:.2f} million parameters",
        "training data": f"{', '.join(cfg.DATASETS.TRAIN)}: {outcome['photos']} photos",
        "evaluation data": ", ".join(cfg.DATASETS.TEST) or "none",
        "iterations": f"{outcome['iterations']} of {cfg.SOLVER.MAX_ITER}, {end}",
        "photos an iteration": f"{cfg.SOLVER.IMS_PER_BATCH}, a step every "
        f"{cfg.SOLVER.ACCUMULATE} iterations",
        "optimizer": f"{cfg.SOLVER.OPTIMIZER}, learning rate {cfg.SOLVER.BASE_LR}, "
        f"weight decay {cfg.SOLVER.WEIGHT_DECAY}, {cfg.SOLVER.LR_SCHEDULER_NAME}",
        "average of weights": f"decay {cfg.CRACK.EMA_DECAY}" if cfg.CRACK.EMA_DECAY else "none",
        "speed": f"{speed:.1f} photos/s; {timedelta(seconds=round(duration))} of iterations",
        "seed": str(cfg.SEED),
    }
    return markdown_lines(("what", "value"), list(facts.items()))


def _metrics(cfg: CfgNode, rows: Rows, outcome: Mapping[str, Any]) -> str:
    names = dict.fromkeys([cfg.CRACK.BEST_METRIC, *SHOWN])
    best_row = {
        name: dict(zip(*series(rows, name), strict=True)).get(outcome["best_iteration"])
        for name in names
    }
    lines = []
    for name in names:
        values = series(rows, name)[1]
        if values:
            at_best = best_row[name]
            best = "" if at_best is None else f"{at_best:.4f}"
            lines.append((name, best, f"{values[-1]:.4f}"))
    if not lines:
        return "Nothing was evaluated."
    return (
        f"`model_best.pth` is from iteration {outcome['best_iteration']}, chosen by "
        f"{cfg.CRACK.BEST_METRIC}; `model_final.pth` is the last.\n\n"
        + markdown_lines(("metric", "best", "last"), lines)
    )


def _photos(outcome: Mapping[str, Any]) -> str:
    bad = outcome["bad"]
    if not bad:
        return "Every photo that came up could be read."
    lines = [f"- {name}: {reason}" for name, reason in list(bad.items())[:20]]
    return "\n".join([f"{len(bad)} photos could not be read and were skipped:", "", *lines])
