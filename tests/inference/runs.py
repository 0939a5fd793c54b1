"""Prediction runs, and the files that they leave."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode

from crack_data.inference.batch import run_prediction
from crack_data.inference.outputs import OutputOptions
from crack_data.storage import find_photos


def run(cfg: CfgNode, photos: str | Path, folder: str | Path, **more: object) -> int:
    resume = bool(more.pop("resume", False))
    options = OutputOptions(str(folder), **more)  # type: ignore[arg-type]
    found = find_photos(str(photos), output=str(folder))
    return run_prediction(cfg, found, options, resume)


def content(folder: Path) -> dict[str, bytes]:
    files = [x for x in sorted(folder.rglob("*")) if x.is_file()]
    return {str(x.relative_to(folder)): x.read_bytes() for x in files}
