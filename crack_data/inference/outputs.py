"""What a prediction run writes for each photo: three pictures, and a record while it lasts."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import storage
from ..errors import CrackError
from ..photos import read_photo
from ..png import encode_png
from ..storage import PhotoFile
from .drawing import draw_on
from .prediction import CrackPrediction
from .predictor import CrackPredictor
from .results import to_json

PICTURES = ("overlay", "mask", "prob")
# One small file per finished photo while the run lasts; what --resume knows of a broken-off run.
RECORDS = ".records"


@dataclass(frozen=True)
class OutputOptions:
    """What to write for each photo.

    Attributes:
        folder: where to, path or URL.
        boxes, scores: draw them on the overlay.
        mm_per_px: scale of the photos, or None.
        threshold: of the crack probability, or None for the model's own.
    """

    folder: str
    boxes: bool = False
    scores: bool = False
    mm_per_px: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class PhotoTask:
    """A photo to predict and what its output files begin with."""

    photo: PhotoFile
    name: str


def predict_photo(
    predictor: CrackPredictor, task: PhotoTask, options: OutputOptions
) -> dict[str, Any]:
    """Predict one photo and write its pictures and, last, its record.

    Args:
        predictor: the model.
        task: the photo.
        options: see `OutputOptions`.

    Returns:
        the record: "name", "path" and what `to_json` gives; for a photo that cannot be used "name",
        "path", "file_name" and "error".

    Raises:
        CrackError: the output cannot be written.
    """
    photo, name = task.photo, task.name
    about = {"name": name, "path": photo.path}
    try:
        image = read_photo(photo.path)
    except CrackError as error:
        return {**about, "file_name": photo.file_name, "error": str(error)}
    try:
        prediction = predictor(image, options.threshold)
    except Exception as error:  # such as no memory for this one: the other photos go on
        sentence = f"photo {photo.path} cannot be predicted: {type(error).__name__}: {error}"
        return {**about, "file_name": photo.file_name, "error": sentence}
    draw_on(image, prediction, options.boxes, options.scores)
    for kind, picture in _pictures(image, prediction):
        storage.write_bytes(storage.join(options.folder, f"{name}_{kind}.png"), encode_png(picture))
    record = {**about, **to_json(prediction, photo.file_name, options.mm_per_px)}
    path = storage.join(options.folder, f"{RECORDS}/{name}.json")
    storage.write_bytes(path, json.dumps(record).encode())
    return record


def _pictures(drawn: np.ndarray, prediction: CrackPrediction) -> Iterable[tuple[str, np.ndarray]]:
    yield "overlay", drawn
    yield "mask", prediction.mask.view(np.uint8) * np.uint8(255)
    yield "prob", prediction.probability


def output_names(photos: Iterable[PhotoFile], known: dict[str, str]) -> list[str]:
    """A name of its own for each photo's outputs: its stem, or more of its path where needed.

    Args:
        photos: the photos.
        known: names that earlier photos of the same output folder have, by path.
    """
    taken = {name.lower() for name in known.values()}
    names = []
    for photo in photos:
        name = known.get(photo.path)
        if name is None:
            name = next(x for x in _candidates(photo.file_name) if x.lower() not in taken)
            taken.add(name.lower())
        names.append(name)
    return names


def _candidates(file_name: str) -> Iterable[str]:
    folder, base = posixpath.split(file_name)
    stem, suffix = posixpath.splitext(base)
    longer = f"{stem}_{suffix[1:]}"
    yield stem
    yield longer
    if folder:
        yield f"{folder.replace('/', '_')}_{longer}"
    number = 2
    while True:
        yield f"{longer}_{number}"
        number += 1
