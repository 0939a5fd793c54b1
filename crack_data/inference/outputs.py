"""What a prediction run writes for each photo: pictures, and a record while it lasts."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import storage
from ..errors import CrackError
from ..photos import read_photo
from ..storage import PhotoFile
from .drawing import draw_on, encode_png
from .labels_out import crack_polygons
from .lines import find_place, photo_features, to_geojson
from .measuring import measure
from .predictor import CrackPredictor
from .results import Record, to_json, uncertainty

# One small file per finished photo while the run lasts; what --resume knows of a broken-off run.
RECORDS = ".records"
LINES_ENDING = "_lines.geojson"


@dataclass(frozen=True)
class OutputOptions:
    """What to write for each photo.

    Attributes:
        folder: where to, path or URL.
        boxes, scores: draw them on the overlay.
        mm_per_px: scale of the photos, or None.
        threshold: of the crack probability, or None for the model's own.
        lines: write the cracks' centrelines as GeoJSON.
        labels: the format of labels to correct, of `labels_out.FORMATS`, or None.
    """

    folder: str
    boxes: bool = False
    scores: bool = False
    mm_per_px: float | None = None
    threshold: float | None = None
    lines: bool = False
    labels: str | None = None


@dataclass(frozen=True)
class PhotoTask:
    """A photo to predict and what its output files begin with, a path below the output folder."""

    photo: PhotoFile
    name: str


def predict_photo(predictor: CrackPredictor, task: PhotoTask, options: OutputOptions) -> Record:
    """Predict one photo and write its files and, last, its record.

    Args:
        predictor: the model.
        task: the photo.
        options: see `OutputOptions`.

    Returns:
        the record: "name", "path", "file_name", what `to_json` gives, "uncertainty", "photo" (size
        and hash of the file) and "outputs" (sizes of the files written); for a photo that cannot
        be used "name", "path", "file_name" and "error".

    Raises:
        CrackError: the output cannot be written.
    """
    path, file_name = task.photo.path, task.photo.file_name
    try:
        image = read_photo(path)
        place = find_place(path) if options.lines else None
    except CrackError as error:
        return failed(task, str(error))
    try:
        prediction = predictor(image, options.threshold)
    except Exception as error:  # such as no memory for this one: the other photos go on
        return failed(task, f"photo {path} cannot be predicted: {type(error).__name__}: {error}")
    scale = place.mm_per_px if place and place.mm_per_px else options.mm_per_px
    measured = [measure(instance) for instance in prediction.instances]
    record = {
        **about(task),
        **to_json(prediction, file_name, scale, measured),
        "uncertainty": uncertainty(prediction.levels),
        "photo": storage.fingerprint(path),
    }
    if options.labels:
        for instance, entry in zip(prediction.instances, record["instances"], strict=True):
            entry["polygons"] = crack_polygons(instance)
    draw_on(image, prediction, options.boxes, options.scores)
    files: dict[str, bytes | Path] = {
        "_overlay.png": encode_png(image),
        "_mask.png": encode_png(prediction.mask.view(np.uint8) * np.uint8(255)),
        "_prob.png": encode_png(prediction.probability),
    }
    if options.lines:
        features = photo_features(prediction.instances, measured, file_name, place, scale)
        files[LINES_ENDING] = to_geojson(features, place)
    return write_photo(record, files, options.folder)


def about(task: PhotoTask) -> Record:
    """What every record says of its photo."""
    photo = task.photo
    path = storage.printable(photo.path)
    return {"name": task.name, "path": path, "file_name": photo.file_name}


def failed(task: PhotoTask, sentence: str) -> Record:
    """The record of a photo that cannot be used."""
    return {**about(task), "error": storage.printable(sentence)}


def write_photo(record: Record, files: dict[str, bytes | Path], folder: str) -> Record:
    """Write a photo's files, by the ends of their names, and its record, with their sizes.

    Args:
        record: of the photo.
        files: their contents, or files to copy.
        folder: the output folder.
    """
    name, written = record["name"], {}
    for ending, content in files.items():
        storage.write_bytes(storage.join(folder, name + ending), content)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        written[name + ending] = size
    record = {**record, "outputs": written}
    path = storage.join(folder, f"{RECORDS}/{name}.json")
    storage.write_bytes(path, json.dumps(record).encode())
    return record


def output_names(photos: Iterable[PhotoFile], known: dict[str, str]) -> list[str]:
    """A name of its own for each photo's outputs: its name's stem, longer where that is taken.

    Args:
        photos: the photos; those in subfolders have their outputs in such too.
        known: names that earlier photos of the same output folder have, by path.
    """
    taken = {name.lower() for name in known.values()}
    names = []
    for photo in photos:
        name = known.get(storage.printable(photo.path))
        if name is None:
            name = next(x for x in _candidates(photo.file_name) if x.lower() not in taken)
            taken.add(name.lower())
        names.append(name)
    return names


def _candidates(file_name: str) -> Iterator[str]:
    stem, suffix = posixpath.splitext(file_name)
    longer = f"{stem}_{suffix[1:]}"
    yield stem
    yield longer
    number = 2
    while True:
        yield f"{longer}_{number}"
        number += 1
