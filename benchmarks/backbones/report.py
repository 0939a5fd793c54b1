"""The benchmark as a page of Markdown, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from crack_data.evaluation.tables import markdown_lines
from crack_data.storage import atomic_write, write_bytes

from .measure import Result

GOAL_MS = 200.0
_NO_ACCURACY = -0.15  # where the picture puts models without a measured F1
# The earlier attempt that set the goal, on another machine: ms a photo, millions of parameters.
EARLIER = (("R101-FPN", 1313.1, 63.7), ("MobileNetV2", 181.9, 22.7))


def write_report(
    folder: Path,
    results: Sequence[Result],
    machine: Mapping[str, str],
    accuracy: Mapping[str, Mapping[str, Mapping[str, float]]],
    extra: Mapping[str, Mapping[str, float]],
) -> str:
    """Write benchmark.md, benchmark.json and benchmark.png, and return the Markdown.

    Args:
        folder: where to; made if missing.
        results: the first is what the others are compared with.
        machine: see `describe_machine`.
        accuracy: metrics by row name and data set, empty where no data set was given.
        extra: other figures, title by title, see `measure_training` and `measure_tiling`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [x.to_json() for x in results]
    for row in rows:
        row["accuracy"] = dict(accuracy.get(row["name"], {}))
    content = {"machine": dict(machine), "rows": rows, **extra}
    page = to_markdown(rows, machine, extra)
    write_bytes(folder / "benchmark.json", json.dumps(content, indent=1).encode())
    write_bytes(folder / "benchmark.md", page.encode())
    draw(folder / "benchmark.png", rows)
    return page


def to_markdown(
    rows: Sequence[Mapping[str, Any]],
    machine: Mapping[str, str],
    extra: Mapping[str, Mapping[str, float]],
) -> str:
    """The tables.

    Args:
        rows: as `Result.to_json` gives them, with "accuracy".
        machine, extra: as in `write_report`.
    """
    parts = ["# Benchmark", ", ".join(f"{k} {v}" for k, v in machine.items()) + "."]
    parts.append(f"Rows measured in turns on the same photos, n = {rows[0]['n']} each.")
    parts.append(markdown_lines(_MAIN_HEAD, [_main_cells(x, rows[0]) for x in rows] + _earlier()))
    parts.append(f"The goal that started it: {GOAL_MS:.0f} ms.")
    parts.append("## Milliseconds by stage")
    parts.append(_by_part(rows, "stages_ms", "{:.1f}"))
    parts.append("## Million parameters by part")
    parts.append(_by_part(rows, "parameters", "{:.2f}", 1e-6))
    parts.append("## GFLOPs by part (multiply-adds)")
    parts.append(_by_part(rows, "gflops", "{:.2f}"))
    measured = [x for x in rows if x["accuracy"]]
    for dataset in measured[0]["accuracy"] if measured else ():
        metrics = [{"name": x["name"], "accuracy": x["accuracy"][dataset]} for x in measured]
        parts += [f"## Accuracy on {dataset}", _by_part(metrics, "accuracy", "{:.3f}")]
    for title, values in extra.items():
        cells = [[name, f"{value:.3g}"] for name, value in values.items()]
        parts += [f"## {title}", markdown_lines(["what", "value"], cells)]
    return "\n\n".join(parts) + "\n"


_MAIN_HEAD = [
    "model", "path", "precision", "weights", "ms, median", "p90", "photos/s", "times faster",
    "M parameters", "GFLOPs", "checkpoint MiB", "memory MiB", "start s",
]  # fmt: skip


def _main_cells(row: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        row["path"],
        row["precision"],
        "trained" if row["trained"] else "random",
        f"{row['median_ms']:.1f}",
        f"{row['p90_ms']:.1f}",
        f"{row['photos_per_second']:.1f}",
        f"{first['median_ms'] / row['median_ms']:.1f}",
        f"{row['parameters']['all'] / 1e6:.1f}",
        f"{row['gflops']['all']:.1f}",
        f"{row['checkpoint_mib']:.1f}",
        f"{row['memory_mib']:.0f}",
        f"{row['build_s']:.1f}",
    ]


def _earlier() -> list[list[str]]:
    empty = [""] * (len(_MAIN_HEAD) - 9)
    return [
        [f"earlier attempt, another machine: {name}", "", "", "", f"{ms:.1f}", "",
         f"{1000 / ms:.1f}", "", f"{millions:.1f}", *empty]
        for name, ms, millions in EARLIER
    ]  # fmt: skip


def _by_part(rows: Sequence[Mapping[str, Any]], key: str, form: str, factor: float = 1.0) -> str:
    parts = list(dict.fromkeys(part for row in rows for part in row[key]))
    body = [
        [row["name"], *(form.format(row[key][x] * factor) if x in row[key] else "" for x in parts)]
        for row in rows
    ]
    return markdown_lines(["model", *parts], body)


def draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Milliseconds against F1 (where measured), area by size; beside it the stages as shares."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(15, 5), layout="constrained")
    _draw_models(left, rows)
    _draw_stages(right, rows)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
    pyplot.close(figure)


def _draw_models(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    measured = [row for row in rows if row["accuracy"]]
    for row in rows:
        f1 = [x["f1"] for x in row["accuracy"].values()]
        axes.scatter(
            row["median_ms"],
            sum(f1) / len(f1) if f1 else _NO_ACCURACY,
            s=20 * row["parameters"]["all"] / 1e6,
            alpha=0.6,
            label=f"{row['name']}: {row['median_ms']:.0f} ms",
        )
    axes.axvline(GOAL_MS, linestyle=":", color="grey")
    axes.set(xscale="log", xlabel="ms a photo (area: parameters; dotted: the 200 ms goal)")
    ticks = [0.2, 0.4, 0.6, 0.8, 1.0] if measured else []
    if len(measured) < len(rows):
        ticks = [_NO_ACCURACY, *ticks]
    axes.set_yticks(ticks, ["no accuracy" if x == _NO_ACCURACY else f"{x:.1f}" for x in ticks])
    axes.set(
        ylabel="pixel F1, mean of the data sets" if measured else "",
        ylim=(-0.3, 1.05 if measured else 0.2),
    )
    axes.margins(x=0.2)
    legend = axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    for handle in legend.legend_handles:
        handle.set_sizes([40])  # type: ignore[union-attr]


def _draw_stages(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [f"{row['name']}\n{row['median_ms']:.0f} ms" for row in rows]
    totals = [sum(row["stages_ms"].values()) for row in rows]
    start = [0.0] * len(rows)
    for stage in dict.fromkeys(x for row in rows for x in row["stages_ms"]):
        pairs = zip(rows, totals, strict=True)
        widths = [100 * row["stages_ms"].get(stage, 0.0) / total for row, total in pairs]
        axes.barh(names, widths, left=start, label=stage)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    axes.set(xlabel="% of a photo's time by stage")
    axes.invert_yaxis()
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=3)
