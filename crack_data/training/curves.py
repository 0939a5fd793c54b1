"""curves.png: losses, learning rate, speed and metrics of a training in one picture."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import atomic_write
from .history import series

Rows = list[dict[str, Any]]


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
