"""predictions.json and predictions.csv, and what --resume reads back from them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from .. import storage
from ..errors import CrackError
from .outputs import PICTURES, RECORDS

Record = dict[str, Any]

JSON_NAME = "predictions.json"
CSV_NAME = "predictions.csv"
# What the records of a run that has begun depend on, beside them.
_SETTINGS_NAME = "-settings.json"

_COLUMNS = (
    "file_name", "error", "height", "width", "threshold", "percent_masked", "percent_unmasked",
    "count", "instance", "score", "x", "y", "box_width", "box_height", "area",
    "length_px", "mean_width_px", "max_width_px", "orientation_deg",
    "length_mm", "mean_width_mm", "max_width_mm", "area_mm2",
)  # fmt: skip
_IDS = ("id", "image_id", "category_id", "iscrowd")


def begin(folder: str, settings: dict[str, Any]) -> None:
    """Clear an earlier run's summary and records and note the settings of this one."""
    storage.remove_files(folder, (JSON_NAME, CSV_NAME))
    storage.remove_folder(storage.join(folder, RECORDS))
    path = storage.join(folder, f"{RECORDS}/{_SETTINGS_NAME}")
    storage.write_bytes(path, json.dumps(settings).encode())


def finished(folder: str, settings: dict[str, Any]) -> dict[str, Record]:
    """Records of the photos whose outputs are complete in a folder, by the photo's path.

    Raises:
        CrackError: the folder's results were made with other settings.
    """
    found = _from_json(folder, settings) | _from_records(folder, settings)
    there = storage.list_names(folder)
    return {
        path: record
        for path, record in found.items()
        if all(f"{record['name']}_{kind}.png" in there for kind in PICTURES)
    }


def finish(records: list[Record], settings: dict[str, Any], folder: str) -> None:
    """Write predictions.csv, then predictions.json, and drop the records.

    The JSON is a COCO data set whose "annotations" are COCO results (they have scores); "images"
    carry the percentages, "errors" the photos that could not be used, "settings" what was run.

    Args:
        records: of `predict_photo`, in the photos' order.
        settings: what the numbers depend on.
        folder: where to, path or URL.
    """
    storage.write_bytes(storage.join(folder, CSV_NAME), _csv(records).encode())
    document = json.dumps(_document(records, settings), indent=1)
    storage.write_bytes(storage.join(folder, JSON_NAME), document.encode())
    storage.remove_folder(storage.join(folder, RECORDS))


def _document(records: list[Record], settings: dict[str, Any]) -> dict[str, Any]:
    images: list[Record] = []
    annotations: list[Record] = []
    errors: list[Record] = []
    for image_id, record in enumerate(records, start=1):
        if "error" in record:
            errors.append({key: record[key] for key in ("file_name", "path", "error")})
            continue
        about = {key: value for key, value in record.items() if key != "instances"}
        images.append({"id": image_id, **about})
        for instance in record["instances"]:
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1}
            annotations.append({**ids, **instance, "iscrowd": 0})
    return {
        "settings": settings,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "crack"}],
        "errors": errors,
    }


def _csv(records: list[Record]) -> str:
    """One row for each instance; photos without any, or unusable, have one row too."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for record in records:
        instances = record.get("instances", [])
        about = {**record, "count": "" if "error" in record else len(instances)}
        rows = [{**about, "instance": i, **_flat(x)} for i, x in enumerate(instances, start=1)]
        table.writerows(rows or [about])
    return text.getvalue()


def _flat(instance: dict[str, Any]) -> dict[str, Any]:
    box = zip(("x", "y", "box_width", "box_height"), instance["bbox"], strict=True)
    return {**instance, **dict(box)}


def _from_records(folder: str, settings: dict[str, Any]) -> dict[str, Record]:
    records = storage.join(folder, RECORDS)
    names = storage.list_names(records)
    if _SETTINGS_NAME not in names:
        return {}
    _check_settings(_load(storage.join(records, _SETTINGS_NAME)), settings, folder)
    loaded = [_load(storage.join(records, x)) for x in sorted(names - {_SETTINGS_NAME})]
    return {record["path"]: record for record in loaded}


def _from_json(folder: str, settings: dict[str, Any]) -> dict[str, Record]:
    if JSON_NAME not in storage.list_names(folder):
        return {}
    document = _load(storage.join(folder, JSON_NAME))
    _check_settings(document["settings"], settings, folder)
    records: dict[int, Record] = {}
    for image in document["images"]:
        about = {key: value for key, value in image.items() if key != "id"}
        records[image["id"]] = {**about, "instances": []}
    for annotation in document["annotations"]:
        instance = {key: value for key, value in annotation.items() if key not in _IDS}
        records[annotation["image_id"]]["instances"].append(instance)
    return {record["path"]: record for record in records.values()}


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
