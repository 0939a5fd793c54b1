"""summary.md: one page on a training that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from detectron2.config import CfgNode

from ..files import atomic_write
from ..markdown import markdown_lines
from .history import series

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


def write_summary(
    cfg: CfgNode, rows: list[dict[str, Any]], outcome: Mapping[str, Any], path: str
) -> None:
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


def _facts(cfg: CfgNode, rows: list[dict[str, Any]], outcome: Mapping[str, Any]) -> str:
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


def _metrics(cfg: CfgNode, rows: list[dict[str, Any]], outcome: Mapping[str, Any]) -> str:
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
