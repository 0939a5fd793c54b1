"""The demo's page: photos with masks and percentages, curves, and tables, in one HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from detectron2.data import DatasetCatalog

from ..datasets import register_crack_dataset, union_mask
from ..files import atomic_write
from ..photos import read_photo

# Metric of crack_metrics.json → its heading, factor and digits.
_METRICS = {
    "f1": ("pixel F1", 1, 3),
    "f1_2px": ("pixel F1, 2 px", 1, 3),
    "f1_ods": ("F1 at the best threshold", 1, 3),
    "precision": ("precision", 1, 3),
    "recall": ("recall", 1, 3),
    "iou": ("IoU", 1, 3),
    "coverage_mae": ("coverage error, points", 1, 2),
    "false_alarm_rate": ("false alarms, %", 100, 1),
}
_RED = (40, 40, 230)  # BGR


def write_page(output: Path, iterations: int, drawn: bool) -> Path:
    """Write ``output/index.html``, with pictures beside it.

    Args:
        output: folder of a demo whose steps have run.
        iterations: of its fine-tuning.
        drawn: whether its photos are drawn ones.

    Returns:
        the page's path.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    html = environment.get_template("page.html").render(
        rows=_sample_rows(output),
        headings=[heading for heading, _, _ in _METRICS.values()],
        table={
            model: _cells(crack_metrics(output / f"evaluation_{name}"))
            for model, name in (("shipped", "before"), ("tuned", "after"))
        },
        iterations=iterations,
        drawn=drawn,
        pictures=[name for name in _PICTURES if (output / name).is_file()],
        benchmark=_text(output / "benchmark" / "benchmark.md"),
        headers=answer_headers(output / "answer_headers.txt"),
    )
    page = output / "index.html"
    with atomic_write(page) as file:
        file.write(html.encode())
    return page


def answer_headers(path: Path) -> str:
    """Status line and the headers that are about the photo, of curl's -D file."""
    telling = ("HTTP", "Content-Type", "Server-Timing", "X-Crack")
    return "\n".join(line for line in _text(path).splitlines() if line.startswith(telling))


_PICTURES = ("training/curves.png", "benchmark/benchmark.png")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def crack_metrics(folder: Path) -> dict[str, float]:
    """The metrics that an evaluation with the OUTPUT_DIR ``folder`` has written."""
    path = next((folder / "inference").glob("*/crack_metrics.json"))
    return json.loads(_text(path))["metrics"]


def _cells(metrics: dict[str, float]) -> list[str]:
    """Metrics as text, in the order of `_METRICS`."""
    return [
        f"{factor * metrics[name]:.{digits}f}" if name in metrics else "–"
        for name, (_, factor, digits) in _METRICS.items()
    ]


def _sample_rows(output: Path) -> list[dict[str, Any]]:
    """One row per sample photo: its pictures, and the percentages drawn and predicted."""
    before, after = (_predictions(output / name) for name in ("before", "after"))
    rows = []
    for name, truth in _truth(output / "crack_val.json").items():
        if name not in before:
            continue
        picture = f"samples/{Path(name).stem}_drawn.png"
        _save(output / picture, read_photo(output / "samples" / name), truth)
        rows.append(
            {
                "photo": f"samples/{name}",
                "truth": picture,
                "truth_percent": 100 * float(truth.mean()),
                "before": f"before/{before[name]['name']}_overlay.png",
                "before_percent": before[name]["percent_masked"],
                "after": f"after/{after[name]['name']}_overlay.png",
                "after_percent": after[name]["percent_masked"],
            }
        )
    return rows


def _predictions(folder: Path) -> dict[str, Any]:
    """Records of predictions.json by the photo's file name."""
    images = json.loads(_text(folder / "predictions.json"))["images"]
    return {Path(image["file_name"]).name: image for image in images}


def _truth(json_file: Path) -> dict[str, np.ndarray]:
    """Union of the instances of each photo, bool (H, W), by the photo's file name."""
    name = str(json_file)
    register_crack_dataset(name, name)
    return {Path(x["file_name"]).name: union_mask(x) for x in DatasetCatalog.get(name)}


def _save(path: Path, photo: np.ndarray, mask: np.ndarray) -> None:
    drawn = photo.copy()
    drawn[mask] = (0.4 * drawn[mask] + 0.6 * np.array(_RED)).astype(np.uint8)
    _, data = cv2.imencode(".png", drawn)
    with atomic_write(path) as file:
        file.write(data.tobytes())
