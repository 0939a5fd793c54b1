"""Predictions as labels to correct: files that CVAT, labelme and Label Studio import.

Every piece of a crack becomes a polygon along the rim of its pixels; what lies between them and
the mask is at most 1 px wide. Pieces of one crack stay together by annotation (COCO, for CVAT), by
group number (labelme) or by relations (Label Studio).
"""

from __future__ import annotations

import json
import os
import posixpath
from typing import Any

import cv2
import numpy as np
from scipy.spatial.distance import cdist
from skimage.measure import approximate_polygon, find_contours

from .. import storage
from .prediction import CrackInstance
from .results import Record

FORMATS = ("coco", "labelme", "label-studio")
FOLDER = "labels"
LABEL = "crack"
# px that a simplified polygon may lie beside the mask's rim.
TOLERANCE = 0.4

Polygon = list[list[float]]


def crack_polygons(instance: CrackInstance) -> list[Polygon]:
    """Outlines of a crack's pieces, each a list of x, y in px from the photo's top left corner.

    A hole is tied to the outline by a line that is followed there and back, for none of the
    formats has holes.
    """
    x0, y0, _, _ = instance.box
    _, labels, stats, _ = cv2.connectedComponentsWithStats(instance.mask.astype(np.uint8))
    polygons = []
    for label, (x, y, width, height, _) in enumerate(stats.tolist()):
        piece = np.pad(labels[y : y + height, x : x + width] == label, 1)
        if label == 0:
            continue
        rings = find_contours(piece.astype(np.float32), 0.5, fully_connected="high")
        rings = [approximate_polygon(ring, TOLERANCE)[:-1] for ring in rings]
        # The outline is larger than any hole in it.
        rings.sort(key=lambda ring: -np.ptp(ring, axis=0).sum())
        outline = rings[0]
        for hole in rings[1:]:
            at, to = np.unravel_index(np.argmin(cdist(outline, hole)), (len(outline), len(hole)))
            tied = np.roll(hole, -to, axis=0)
            outline = np.vstack([outline[: at + 1], tied, tied[:1], outline[at:]])
        # Pixel centres are whole in contours, at halves in labels; and there is the padding.
        polygon = outline[:, ::-1] + (x0 + x - 0.5, y0 + y - 0.5)
        polygons.append(polygon.round(2).tolist())
    return polygons


def write_labels(records: list[Record], labels: str, folder: str) -> None:
    """Write the labels of a run.

    Args:
        records: of `predict_photo`, their instances with "polygons".
        labels: of `FORMATS`.
        folder: the output folder; labels come in its subfolder `FOLDER`.
    """
    usable = [record for record in records if "error" not in record]
    if labels == "labelme":
        for record in usable:
            path = storage.join(folder, f"{FOLDER}/{record['name']}.json")
            storage.write_bytes(path, json.dumps(_labelme(record, path), indent=1).encode())
        return
    content = _coco(usable) if labels == "coco" else [_label_studio(x) for x in usable]
    path = storage.join(folder, f"{FOLDER}/{labels.replace('-', '_')}.json")
    storage.write_bytes(path, json.dumps(content, indent=1).encode())


def _coco(records: list[Record]) -> dict[str, Any]:
    """COCO's instances: one annotation for a crack, one polygon for a piece."""
    images: list[Record] = []
    annotations: list[Record] = []
    for image_id, record in enumerate(records, start=1):
        size = {key: record[key] for key in ("file_name", "height", "width")}
        images.append({"id": image_id, **size})
        for instance in record["instances"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": [np.ravel(x).tolist() for x in instance["polygons"]],
                    "bbox": instance["bbox"],
                    "area": instance["area"],
                    "iscrowd": 0,
                    "attributes": {"score": instance["score"]},
                }
            )
    categories = [{"id": 1, "name": LABEL, "supercategory": ""}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _labelme(record: Record, path: str) -> dict[str, Any]:
    """One labelme file: a shape for a piece, a group for a crack."""
    photo = record["path"]
    if "://" not in photo:
        photo = os.path.relpath(photo, posixpath.dirname(path))
    shapes = [
        {
            "label": LABEL,
            "points": polygon,
            "group_id": number,
            "description": f"score {instance['score']}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for number, instance in enumerate(record["instances"], start=1)
        for polygon in instance["polygons"]
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": photo,
        "imageData": None,
        "imageHeight": record["height"],
        "imageWidth": record["width"],
    }


def _label_studio(record: Record) -> dict[str, Any]:
    """One task with a prediction: a region for a piece; relations tie the pieces of a crack.

    For a labelling set-up with an Image named "image" and PolygonLabels named "label".
    """
    size = np.array([record["width"], record["height"]])
    result: list[dict[str, Any]] = []
    for number, instance in enumerate(record["instances"], start=1):
        ids = [f"{number}-{piece}" for piece in range(1, len(instance["polygons"]) + 1)]
        for region, polygon in zip(ids, instance["polygons"], strict=True):
            points = (100.0 * np.array(polygon) / size).round(4).tolist()
            result.append(
                {
                    "id": region,
                    "type": "polygonlabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": record["width"],
                    "original_height": record["height"],
                    "image_rotation": 0,
                    "score": instance["score"],
                    "value": {"points": points, "closed": True, "polygonlabels": [LABEL]},
                }
            )
        result += [
            {"type": "relation", "from_id": ids[0], "to_id": other, "direction": "bi", "labels": []}
            for other in ids[1:]
        ]
    scores = [instance["score"] for instance in record["instances"]]
    prediction = {
        "model_version": "crack-segmentation",
        "score": max(scores, default=0.0),
        "result": result,
    }
    image = f"/data/local-files/?d={record['file_name']}"
    return {"data": {"image": image}, "predictions": [prediction]}
