"""What a training leaves to read: metrics.json, curves.png and summary.md."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.tables import markdown_lines
from ..storage import atomic_write, printable, write_bytes

Rows = list[dict[str, Any]]


def read_metrics(path: Path) -> Rows:
    """The lines of a metrics.json, without those that are damaged; [] where it is missing."""
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def cut_metrics(path: Path, start: int) -> None:
    """Drop what was written for iteration ``start`` and later: it will be written again."""
    if not path.is_file():
        return
    kept = [row for row in read_metrics(path) if row["iteration"] < start]
    with atomic_write(path) as file:
        file.writelines(json.dumps(row, sort_keys=True).encode() + b"\n" for row in kept)


def series(rows: Rows, name: str) -> dict[int, float]:
    """The values of one metric by their iterations."""
    return {row["iteration"]: row[name] for row in rows if name in row}


def write_report(trainer: Any) -> None:
    """Draw the metrics.json of a `CrackTrainer` as curves.png, and write summary.md."""
    folder = Path(trainer.cfg.OUTPUT_DIR)
    rows = read_metrics(folder / "metrics.json")
    if not rows:
        return
    metric, bad = trainer.cfg.CRACK.BEST_METRIC, trainer.monitor.bad
    draw_curves(rows, metric, folder / "curves.png")
    skipped = [f"- {name}: {why}" for name, why in bad.items()]
    parts = [
        "# Training summary",
        _facts(trainer, rows),
        _metrics(rows, metric, trainer.best.best_iteration),
        f"{len(bad)} photos could not be read and were skipped" + (":" if bad else "."),
        *(["\n".join(skipped)] if bad else []),
        "![curves](curves.png)",
    ]
    write_bytes(folder / "summary.md", printable("\n\n".join(parts)).encode() + b"\n")


def draw_curves(rows: Rows, best_metric: str, path: Path) -> None:
    """Draw losses, evaluation (with CRACK.BEST_METRIC) and learning rate over the iterations."""
    metrics = [best_metric, "crack/f1", "crack/f1_ods", "segm/AP50", "bbox/AP50"]
    panels = {
        "losses": sorted({name for row in rows for name in row if "loss" in name}),
        "evaluation (AP in percent / 100)": list(dict.fromkeys(metrics)),
        "learning rate": ["lr"],
    }
    figure = Figure(figsize=(18, 6), layout="constrained")
    for axis, (title, names) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axis.set(title=title, xlabel="iteration", yscale="log" if title == "losses" else "linear")
        axis.grid(alpha=0.3)
        for name in names:
            if found := series(rows, name):
                values = [0.01 * x if "/AP" in name else x for x in found.values()]
                axis.plot(list(found), values, label=name, marker="o" if "/" in name else ".")
                axis.legend()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=80)


def _facts(trainer: Any, rows: Rows) -> str:
    cfg, solver = trainer.cfg, trainer.cfg.SOLVER
    parameters = sum(x.numel() for x in trainer.plain_model.parameters())
    seconds = series(rows, "time").values()
    speed = solver.IMS_PER_BATCH * len(seconds) / sum(seconds) if seconds else 0.0
    done = min(trainer.iter, trainer.max_iter)
    end = "ended early" if trainer.iter < trainer.max_iter else "ran to its end"
    facts = {
        "model": f"{cfg.MODEL.BACKBONE.NAME}, {parameters / 1e6:.2f} million parameters in all",
        "training data": f"{', '.join(cfg.DATASETS.TRAIN)}: {trainer.monitor.photos} photos",
        "evaluation data": ", ".join(cfg.DATASETS.TEST) or "none",
        "iterations": f"{done} of {solver.MAX_ITER}, {end}",
        "speed": f"{speed:.1f} photos/s, {solver.IMS_PER_BATCH} an iteration",
        "seed": str(trainer.seed),
    }
    return markdown_lines(("what", "value"), list(facts.items()))


def _metrics(rows: Rows, best_metric: str, best_iteration: int) -> str:
    pixels = ("f1", "f1_ods", "precision", "recall", "f1_2px", "coverage_mae", "false_alarm_rate")
    shown = [best_metric, *(f"crack/{name}" for name in pixels), "segm/AP50", "bbox/AP50"]
    lines = []
    for name in dict.fromkeys(shown):
        if values := series(rows, name):
            best = f"{values[best_iteration]:.4f}" if best_iteration in values else ""
            lines.append((name, best, f"{list(values.values())[-1]:.4f}"))
    if not lines:
        return "Nothing was evaluated."
    best = f"`model_best.pth` is from iteration {best_iteration}, chosen by {best_metric}"
    if best_iteration < 0:
        best = f"No best weights were kept: {best_metric} was not among the metrics"
    table = markdown_lines(("metric", "best", "last"), lines)
    return f"{best}; `model_final.pth`, written at the end, is the last.\n\n{table}"
