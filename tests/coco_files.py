"""A small COCO JSON, and changes to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from crack_data.annotations import read_records

Coco = dict[str, Any]
Change = Callable[[Coco], None]


def thin_crack() -> np.ndarray:
    """A thin crack, 20 x 30 px, drawn by OpenCV."""
    mask = np.zeros((20, 30), np.uint8)
    cv2.line(mask, (2, 3), (25, 14), 1, 2)
    return mask


def two_photos(folder: Path, mask: np.ndarray) -> Coco:
    """Two photos beside the JSON to be, one crack in the first."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((20, 30, 3), 128, np.uint8))
    size = {"height": 20, "width": 30}
    crack = {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "segmentation": rle_of(mask)}
    return {
        "images": [
            {"id": 0, "file_name": "a.png", **size},
            {"id": 1, "file_name": "b.png", **size},
        ],
        "annotations": [{**crack, "bbox": [0, 0, 30, 20], "area": 1.0}],
        "categories": [{"id": 1, "name": "crack"}],
    }


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def records_of(coco: Coco, folder: Path) -> list[dict[str, Any]]:
    path = folder / "set.json"
    path.write_text(json.dumps(coco))
    return read_records(str(path))


def crack(**changes: Any) -> Change:
    return lambda coco: coco["annotations"][0].update(changes)


def without(key: str) -> Change:
    return lambda coco: coco["annotations"][0].pop(key)


def image(**changes: Any) -> Change:
    return lambda coco: coco["images"][0].update(changes)


def category(*rows: tuple[int, str, str], used: int = 1) -> Change:
    def change(coco: Coco) -> None:
        coco["categories"] = [
            {"id": number, "name": name, "supercategory": group} for number, name, group in rows
        ]
        coco["annotations"][0]["category_id"] = used

    return change
