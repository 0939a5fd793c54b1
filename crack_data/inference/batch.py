"""A prediction run over many photos, on this machine or on a Ray cluster."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from detectron2.config import CfgNode
from tqdm import tqdm

from .. import storage
from ..errors import CrackError
from ..storage import PhotoFile
from .fleet import predict_fleet
from .labels_out import write_labels
from .mosaic import predict_any
from .outputs import RECORDS, OutputOptions, PhotoTask, output_names
from .predictor import CrackPredictor
from .results import Record, from_document, to_csv, to_document

CSV_NAME = "predictions.csv"
# What the records depend on, beside them.
_SETTINGS = f"{RECORDS}/-settings.json"


def run_prediction(
    cfg: CfgNode,
    photos: list[PhotoFile],
    options: OutputOptions,
    resume: bool = False,
    ray_address: str | None = None,
    by_uncertainty: bool = False,
) -> int:
    """Predict photos and write everything about them.

    Args:
        cfg: the model; MODEL.WEIGHTS is an existing checkpoint.
        photos: of `storage.find_photos`.
        options: what to write and where.
        resume: keep what is complete in the output folder.
        ray_address: None: here; "local": a Ray cluster of this machine's processors; else the
            address of one, as `ray.init` takes it.
        by_uncertainty: list the photos that the model is least sure of first.

    Returns:
        the number of photos that could not be used.

    Raises:
        CrackError: the model or the output folder cannot be used.
    """
    settings = run_settings(cfg, options)
    done = _finished(photos, options.folder, settings) if resume else {}
    _begin(options.folder, settings, resume)
    names = output_names(photos, {path: record["name"] for path, record in done.items()})
    tasks = [
        PhotoTask(photo, name)
        for photo, name in zip(photos, names, strict=True)
        if storage.printable(photo.path) not in done
    ]
    started = time.perf_counter()
    known = dict(done)
    try:
        for record in _follow(_engine(cfg, tasks, options, ray_address), len(tasks)):
            known[record["path"]] = record
        seconds = time.perf_counter() - started
        records = [known[storage.printable(photo.path)] for photo in photos]
        if by_uncertainty:
            records.sort(key=lambda record: -record.get("uncertainty", -1.0))
        _finish(records, settings, options)
    except CrackError as error:
        raise CrackError(f"{error} ({len(known)} photos are complete; --resume goes on)") from error
    bad = sum("error" in record for record in records)
    print(_closing_line(len(tasks), seconds, len(done), bad, options.folder))
    return bad


def run_settings(cfg: CfgNode, options: OutputOptions) -> dict[str, Any]:
    """What the results of a run depend on, comparable between runs."""
    model = cfg.clone()
    model.defrost()
    # Where the weights lie does not matter, only what they are.
    model.MODEL.WEIGHTS = model.OUTPUT_DIR = ""
    given = {key: value for key, value in vars(options).items() if key != "folder"}
    return {
        "config": hashlib.sha256(model.dump().encode()).hexdigest(),
        "weights": storage.fingerprint(cfg.MODEL.WEIGHTS)["sha256"],
        **given,
    }


def _engine(
    cfg: CfgNode, tasks: list[PhotoTask], options: OutputOptions, ray_address: str | None
) -> Iterator[Record]:
    if not tasks:
        return iter(())
    if ray_address is None:
        predictor = CrackPredictor(cfg)
        return (predict_any(predictor, task, options) for task in tasks)
    return predict_fleet(cfg, tasks, options, ray_address)


def _begin(folder: str, settings: dict[str, Any], resume: bool) -> None:
    """Clear an earlier run's tables and records; note the settings of this one."""
    if not resume:
        there = storage.list_files(folder)
        storage.remove_files(folder, {storage.RESULTS, CSV_NAME} & there.keys())
        storage.remove_folder(storage.join(folder, RECORDS))
    path = storage.join(folder, _SETTINGS)
    storage.write_bytes(path, json.dumps(settings).encode())


def _finish(records: list[Record], settings: dict[str, Any], options: OutputOptions) -> None:
    """Write labels, the CSV, then the JSON, and drop the records."""
    folder = options.folder
    if options.labels:
        write_labels(records, options.labels, folder)
    # Lone surrogates, of messages that hold odd paths, are not UTF-8.
    table = storage.printable(to_csv(records)).encode()
    storage.write_bytes(storage.join(folder, CSV_NAME), table)
    document = json.dumps(to_document(records, settings), indent=1).encode()
    storage.write_bytes(storage.join(folder, storage.RESULTS), document)
    storage.remove_folder(storage.join(folder, RECORDS))


def _finished(photos: list[PhotoFile], folder: str, settings: dict[str, Any]) -> dict[str, Record]:
    """Records, by path, of the photos that are as they were and whose outputs are complete.

    Raises:
        CrackError: the folder's results were made with other settings.
    """
    there = storage.list_files(folder)
    found: list[Record] = []
    if storage.RESULTS in there:
        document = _load(storage.join(folder, storage.RESULTS))
        _check_settings(document["settings"], settings, folder)
        found += from_document(document)
    names = [name for name in there if name.startswith(f"{RECORDS}/")]
    if _SETTINGS in names:
        names.remove(_SETTINGS)
        _check_settings(_load(storage.join(folder, _SETTINGS)), settings, folder)
        found += [_load(storage.join(folder, name)) for name in names]
    known = {record["path"]: record for record in found}
    done = {}
    for photo in photos:
        record = known.get(storage.printable(photo.path))
        if (
            record is not None
            and record["outputs"].items() <= there.items()
            and record["photo"] == storage.fingerprint(photo.path)
        ):
            done[record["path"]] = {**record, "file_name": photo.file_name}
    return done


def _load(path: str) -> dict[str, Any]:
    try:
        return json.loads(storage.read_bytes(path))
    except ValueError as error:
        raise CrackError(f"{path} is damaged; leave --resume out to start anew") from error


def _check_settings(then: dict[str, Any], now: dict[str, Any], folder: str) -> None:
    differing = [key for key in now if then.get(key) != now[key]]
    if differing:
        raise CrackError(
            f"output folder {folder} holds results made with another {differing[0]}; leave "
            "--resume out or name another folder"
        )


def _follow(records: Iterable[Record], count: int) -> Iterator[Record]:
    """Pass records on, with a bar on a terminal and a line for each photo."""
    # The bar is for people; a log gets the lines alone.
    with tqdm(total=count, unit="photo", disable=not sys.stderr.isatty()) as bar:
        for record in records:
            yield record
            if "error" in record:
                bar.write(f"error: {record['error']}", file=sys.stderr)
            else:
                bar.write(_photo_line(record))
            bar.update()


def _photo_line(record: Record) -> str:
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
