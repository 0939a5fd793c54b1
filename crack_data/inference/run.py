"""A prediction run over many photos, on this machine or on a Ray cluster."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from detectron2.config import CfgNode
from tqdm import tqdm

from .. import storage
from ..errors import CrackError
from ..storage import PhotoFile
from . import summary
from .fleet import predict_fleet
from .outputs import OutputOptions, PhotoTask, output_names, predict_photo
from .predictor import CrackPredictor


def run_prediction(
    cfg: CfgNode,
    photos: list[PhotoFile],
    options: OutputOptions,
    resume: bool = False,
    ray_address: str | None = None,
) -> int:
    """Predict photos and write everything about them.

    Args:
        cfg: the model; MODEL.WEIGHTS is an existing checkpoint.
        photos: of `storage.find_photos`.
        options: what to write and where.
        resume: keep what is complete in the output folder.
        ray_address: None: here; "local": a Ray cluster of this machine's processors; else the
            address of one, as `ray.init` takes it.

    Returns:
        the number of photos that could not be used.

    Raises:
        CrackError: the model or the output folder cannot be used.
    """
    _check_folder(photos, options.folder)
    settings = run_settings(cfg, options)
    done = summary.finished(options.folder, settings) if resume else {}
    if not resume:
        summary.begin(options.folder, settings)
    names = output_names(photos, {path: record["name"] for path, record in done.items()})
    tasks = [
        PhotoTask(photo, name)
        for photo, name in zip(photos, names, strict=True)
        if photo.path not in done
    ]
    started = time.perf_counter()
    fresh = _follow(_engine(cfg, tasks, options, ray_address), len(tasks))
    seconds = time.perf_counter() - started
    known = done | {record["path"]: record for record in fresh}
    records = [known[photo.path] for photo in photos]
    summary.finish(records, settings, options.folder)
    bad = sum("error" in record for record in records)
    print(_closing_line(len(tasks), seconds, len(photos) - len(tasks), bad, options.folder))
    return bad


def run_settings(cfg: CfgNode, options: OutputOptions) -> dict[str, Any]:
    """What the numbers of a run depend on, comparable between runs."""
    model = cfg.clone()
    model.defrost()
    # Where the weights lie does not matter, only what they are.
    model.MODEL.WEIGHTS = model.OUTPUT_DIR = ""
    weights = hashlib.sha256(storage.read_bytes(cfg.MODEL.WEIGHTS)).hexdigest()
    return {
        "config": hashlib.sha256(model.dump().encode()).hexdigest(),
        "weights": weights,
        "threshold": options.threshold,
        "mm_per_px": options.mm_per_px,
        "boxes": options.boxes,
        "scores": options.scores,
    }


def _engine(
    cfg: CfgNode, tasks: list[PhotoTask], options: OutputOptions, ray_address: str | None
) -> Iterator[dict[str, Any]]:
    if not tasks:
        return iter(())
    if ray_address is None:
        predictor = CrackPredictor(cfg)
        return (predict_photo(predictor, task, options) for task in tasks)
    return predict_fleet(cfg, tasks, options, ray_address)


def _check_folder(photos: list[PhotoFile], folder: str) -> None:
    output = storage.full_path(folder).rstrip("/")
    for photo in photos:
        if photo.path.rsplit("/", 1)[0] == output:
            raise CrackError(
                f"output folder {folder} holds the photo {photo.file_name} itself; name another"
            )


def _follow(records: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Collect records, with a bar on a terminal and a line for each photo."""
    collected = []
    # The bar is for people; a log gets the lines alone.
    with tqdm(total=count, unit="photo", disable=not sys.stderr.isatty()) as bar:
        for record in records:
            collected.append(record)
            if "error" in record:
                bar.write(f"error: {record['error']}", file=sys.stderr)
            else:
                bar.write(_photo_line(record))
            bar.update()
    return collected


def _photo_line(record: dict[str, Any]) -> str:
    count = len(record["instances"])
    cracks = "1 crack" if count == 1 else f"{count} cracks"
    return f"{record['file_name']}: {record['percent_masked']:.2f} % masked, {cracks}"


def _closing_line(count: int, seconds: float, kept: int, bad: int, folder: str) -> str:
    rate = f" ({count / seconds:.2f} photos/s)" if count else ""
    line = f"{count} photos in {seconds:.1f} s{rate}"
    if kept:
        line += f", {kept} were complete"
    if bad:
        line += f", {bad} could not be used"
    return f"{line}; results in {folder}"
