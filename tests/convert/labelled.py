"""Photos with drawn labels for the tests of conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from crack_data.convert.conversion import ConversionResult, convert
from crack_data.convert.worker import ConversionOptions

WIDTH, HEIGHT = 60, 40
POLYGON = [10, 5, 50, 5, 50, 9, 10, 9]
OTHER = [10, 20, 30, 20, 30, 24, 10, 24]
BLOCK = np.ones((4, 40), np.uint8)  # POLYGON's pixels, at 10, 5


def convert_labels(images: Path, labels: Path, **changes: Any) -> ConversionResult:
    output = images.parent / "out.json"
    return convert(ConversionOptions(images, None, output, labels=labels, **changes))


def masks_of(result: ConversionResult) -> dict[str, list[np.ndarray]]:
    coco = COCO(str(result.outputs[""]))
    return {
        image["file_name"]: [coco.annToMask(each) for each in coco.imgToAnns[image["id"]]]
        for image in coco.imgs.values()
    }


def write_coco(folder: Path, annotations: list[dict[str, Any]], **changes: Any) -> Path:
    content: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 3, "name": "Crack"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3} | each for each in annotations],
    }
    path = folder.parent / "labels.json"
    path.write_text(json.dumps(content | changes), "utf-8")
    return path


def polygon_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:9, 10:50] = 1
    return mask
