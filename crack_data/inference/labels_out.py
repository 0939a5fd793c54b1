"""Predictions as labels to correct: files that CVAT, labelme and Label Studio import.

Every piece of a crack becomes a polygon along the rim of its pixels; what lies between them and
the mask is at most 1 px wide. Pieces of one crack stay together by annotation (COCO, for CVAT), by
group number (labelme) or by relations (Label Studio).
"""

import hashlib
import json
import os
import posixpath
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from scipy.spatial.distance import cdist
from skimage.measure import approximate_polygon, find_contours

from .. import storage
from ..errors import CrackError, as_crack_error
from ..segmentation import decode_mask
from .results import Record, to_document

FORMATS = ("coco", "labelme", "label-studio")
LABEL = "crack"
_FOLDER, _COCO, _LABEL_STUDIO = "labels", "coco.json", "label_studio.json"
_WRITTEN = ".written"  # hashes of the label files beside it

Polygon = list[list[float]]


def crack_polygons(mask: np.ndarray) -> list[Polygon]:
    """Outlines, x, y in px of the photo, of the pieces of a crack with this mask, bool (H, W)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    polygons = []
    for label, (x, y, width, height, _) in enumerate(stats[1:].tolist(), start=1):
        piece = np.pad(labels[y : y + height, x : x + width] == label, 1)
        rings = find_contours(piece.astype(np.float32), 0.5, fully_connected="high")
        rings = [approximate_polygon(ring, tolerance=0.4)[:-1] for ring in rings]  # px
        # The outline is larger than any hole in it.
        outline, *holes = sorted(rings, key=lambda ring: -np.ptp(ring, axis=0).sum())
        for hole in holes:  # of which no format knows: tied to the outline, there and back
            at, to = np.unravel_index(np.argmin(cdist(outline, hole)), (len(outline), len(hole)))
            tied = np.roll(hole, -to, axis=0)
            outline = np.vstack([outline[: at + 1], tied, tied[:1], outline[at:]])
        # Pixel centres are whole in contours, at halves in labels; and there is the padding.
        polygons.append((outline[:, ::-1] + (x - 0.5, y - 0.5)).round(2).tolist())
    return polygons


def check_labels(folder: str) -> dict[str, str]:
    """Label files of earlier runs, with hashes; a `CrackError` where somebody has corrected one."""
    place = posixpath.join(folder, _FOLDER)
    there = storage.list_files(place)
    hashes = storage.read_bytes(posixpath.join(place, _WRITTEN)) if _WRITTEN in there else b"{}"
    with as_crack_error(f"{place}/{_WRITTEN} holds no hashes; move {place} away"):
        known = dict(json.loads(hashes))
    # Pictures of photos in a subfolder of the same name lie among them.
    paths = {name: posixpath.join(place, name) for name in there if name.endswith(".json")}
    for name, path in paths.items():
        if storage.fingerprint(path)["sha256"] != known.get(name):
            raise CrackError(
                f"{path} is not as it was written and may hold corrections; move {place} away or "
                "name another output folder"
            )
    return {name: known[name] for name in paths}


def write_labels(records: list[Record], labels: str, folder: str) -> None:
    """Write a run's labels, of these `FORMATS`, over earlier ones; errors as of `check_labels`."""
    usable = [record for record in records if "error" not in record]
    place = posixpath.join(folder, _FOLDER)
    documents: dict[str, Any]
    if labels == "coco":
        documents = {_COCO: _coco(usable)}
    elif labels == "label-studio":
        documents = {_LABEL_STUDIO: [_label_studio(record) for record in usable]}
    else:
        documents = {f"{record['name']}.json": _labelme(record, place) for record in usable}
    contents = {name: json.dumps(x, indent=1).encode() for name, x in documents.items()}
    written = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    # What holds all photos of a run is replaced; labelme's files of other photos stay.
    replaced = {_COCO, _LABEL_STUDIO, *(f"{record['name']}.json" for record in records)}
    for name, digest in check_labels(folder).items():
        if name in replaced:
            storage.remove(posixpath.join(place, name))
        else:
            written[name] = digest
    # First the hashes: labels that a killed run has written are known, too.
    for name, content in {_WRITTEN: json.dumps(written).encode(), **contents}.items():
        storage.write_bytes(posixpath.join(place, name), content)


def _cracks_of(record: Record) -> list[tuple[Record, list[Polygon]]]:
    """Each crack of a record, and its polygons."""
    size = record["height"], record["width"]
    return [(x, crack_polygons(decode_mask(x["segmentation"], *size))) for x in record["instances"]]


def _coco(records: list[Record]) -> dict[str, Any]:
    """COCO's instances: one annotation for a crack, one polygon for a piece."""
    whole = to_document(records, {})
    polygons = (pieces for record in records for _, pieces in _cracks_of(record))
    for crack, pieces in zip(whole["annotations"], polygons, strict=True):
        crack["segmentation"] = [np.ravel(x).tolist() for x in pieces]
        crack["attributes"] = {"score": crack["score"]}
    about = ("id", "file_name", "height", "width")
    return {
        "images": [{key: image[key] for key in about} for image in whole["images"]],
        "annotations": whole["annotations"],
        "categories": [{"id": 1, "name": LABEL, "supercategory": ""}],
    }


def _labelme(record: Record, place: str) -> dict[str, Any]:
    """One labelme file below the folder ``place``: a shape for a piece, a group for a crack."""
    shapes: list[Record] = [
        {
            "label": LABEL,
            "points": polygon,
            "group_id": number,
            "description": f"score {instance['score']}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for number, (instance, polygons) in enumerate(_cracks_of(record), start=1)
        for polygon in polygons
    ]
    photo, folder = record["path"], posixpath.dirname(posixpath.join(place, record["name"]))
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": photo if "://" in photo else os.path.relpath(photo, folder),
        "imageData": None,
        "imageHeight": record["height"],
        "imageWidth": record["width"],
    }


def _label_studio(record: Record) -> dict[str, Any]:
    """One task with a prediction: a region for a piece; relations tie the pieces of a crack."""
    height, width = record["height"], record["width"]
    # For a labelling set-up with an Image named "image" and PolygonLabels named "label".
    about = {
        "type": "polygonlabels", "from_name": "label", "to_name": "image",
        "original_width": width, "original_height": height, "image_rotation": 0,
    }  # fmt: skip
    result: list[dict[str, Any]] = []
    for number, (instance, polygons) in enumerate(_cracks_of(record), start=1):
        ids = [f"{number}-{piece}" for piece in range(1, len(polygons) + 1)]
        for region, polygon in zip(ids, polygons, strict=True):
            points = (np.array(polygon) * (100.0 / width, 100.0 / height)).round(4).tolist()
            value = {"points": points, "closed": True, "polygonlabels": [LABEL]}
            result.append({"id": region, **about, "score": instance["score"], "value": value})
        result += [
            {"type": "relation", "from_id": ids[0], "to_id": other, "direction": "bi", "labels": []}
            for other in ids[1:]
        ]
    best = max((instance["score"] for instance in record["instances"]), default=0.0)
    prediction = {"model_version": "crack-segmentation", "score": best, "result": result}
    image = f"/data/local-files/?d={quote(record['file_name'])}"
    return {"data": {"image": image}, "predictions": [prediction]}
