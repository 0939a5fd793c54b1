"""A prediction as JSON, with COCO's keys where COCO has them, and as CSV rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..convert.rle import encode_labels
from .measuring import measure
from .prediction import CrackInstance, CrackPrediction


def to_json(
    prediction: CrackPrediction, name: str, mm_per_px: float | None = None
) -> dict[str, Any]:
    """Everything about one photo's prediction but its pictures.

    Args:
        prediction: of the photo.
        name: how the photo is called in the result.
        mm_per_px: the photo's scale; given one, lengths and widths come in mm too.

    Returns:
        a dict that `json.dumps` takes: "file_name", "height" and "width" (px), "threshold",
        "percent_masked", "percent_unmasked", and "instances", each with "score", "bbox"
        (x, y, width, height in px), "area" (px), "segmentation" (compressed COCO RLE at the
        photo's size), "length_px", "mean_width_px", "max_width_px", "orientation_deg", and with a
        scale "length_mm", "mean_width_mm", "max_width_mm", "area_mm2".
    """
    size = (prediction.height, prediction.width)
    return {
        "file_name": name,
        "height": prediction.height,
        "width": prediction.width,
        "threshold": prediction.threshold,
        "percent_masked": prediction.percent_masked,
        "percent_unmasked": prediction.percent_unmasked,
        "instances": [_instance_json(x, size, mm_per_px) for x in prediction.instances],
    }


def _instance_json(
    instance: CrackInstance, size: tuple[int, int], mm_per_px: float | None
) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    measured = measure(instance)
    result: dict[str, Any] = {
        "score": round(instance.score, 4),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": instance.area,
        "length_px": round(measured.length_px, 2),
        "mean_width_px": round(measured.mean_width_px, 2),
        "max_width_px": round(measured.max_width_px, 2),
        "orientation_deg": round(measured.orientation_deg, 1),
    }
    if mm_per_px is not None:
        for key in ("length", "mean_width", "max_width"):
            result[f"{key}_mm"] = round(getattr(measured, f"{key}_px") * mm_per_px, 3)
        result["area_mm2"] = round(instance.area * mm_per_px**2, 3)
    result["segmentation"] = photo_rle(instance, size)
    return result


def photo_rle(instance: CrackInstance, size: tuple[int, int]) -> dict[str, Any]:
    """Compressed COCO RLE of an instance at the size of its photo.

    The runs are moved, not redrawn, so that a photo of any size costs no array of that size.

    Args:
        instance: the instance.
        size: (height, width) of its photo, px.

    Returns:
        {"size": [height, width], "counts": str}.
    """
    x0, y0, _, _ = instance.box
    return encode_labels(instance.mask.view(np.uint8), 1, size, x0, y0)[0]
