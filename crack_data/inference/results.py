"""A prediction as JSON, with COCO's keys where COCO has them, and as CSV rows."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..convert.coco import encode_mask
from .measuring import Measurement
from .prediction import Box, CrackPrediction

Record = dict[str, Any]


class OutputOptions(NamedTuple):
    """What to write for each photo."""

    folder: str  # where to, path or URL
    boxes: bool = False  # draw them on the overlay
    scores: bool = False
    mm_per_px: float | None = None  # scale of the photos
    threshold: float | None = None  # of the crack probability; None: the model's own
    geojson: bool = False  # write the cracks' centrelines as GeoJSON
    labels: str | None = None  # format of labels to correct, of `labels_out.FORMATS`


class Scale(NamedTuple):
    """Mm per px along a crack and across it."""

    along: float
    across: float


_COLUMNS = (
    "file_name", "error", "height", "width", "threshold", "percent_masked", "percent_unmasked",
    "percent_masked_low", "percent_masked_high", "uncertainty", "count", "instance", "score",
    "x", "y", "box_width", "box_height", "area",
    "length_px", "mean_width_px", "max_width_px", "orientation_deg",
    "length_mm", "mean_width_mm", "max_width_mm", "area_mm2",
)  # fmt: skip


def to_json(
    prediction: CrackPrediction,
    name: str,
    measured: Sequence[Measurement],
    scales: Sequence[Scale | None] | None = None,
) -> Record:
    """Everything about one photo's prediction but its pictures, as `json.dumps` takes it.

    An instance, each of which `measure` has measured, is what `instance_json` gives,
    "orientation_deg" and "segmentation" (compressed COCO RLE at the photo's size); with a
    calibrated model, "percent_masked_low" and "percent_masked_high" are a 90 % interval.
    """
    height, width = size = prediction.probability.shape
    record: Record = {"file_name": name, "height": height, "width": width}
    for key in ("threshold", "percent_masked", "percent_unmasked"):
        record[key] = getattr(prediction, key)
    if prediction.percent_range is not None:
        record["percent_masked_low"], record["percent_masked_high"] = prediction.percent_range
    scales = scales or [None] * len(measured)
    record["instances"] = [
        instance_json(instance.score, instance.box, instance.area, each, scale)
        | {"orientation_deg": round(each.orientation_deg, 1)}
        | {"segmentation": encode_mask(instance.mask.view(np.uint8), *instance.box[:2], size)}
        for instance, each, scale in zip(prediction.instances, measured, scales, strict=True)
    ]
    return record


def instance_json(
    score: float, box: Box, area: int, measured: Measurement, scale: Scale | None
) -> Record:
    """An instance in px and, with a scale, in mm; "bbox" is x, y, width, height."""
    x0, y0, x1, y1 = box
    result: Record = {"score": round(score, 4), "bbox": [x0, y0, x1 - x0, y1 - y0], "area": area}
    for key in ("length", "mean_width", "max_width"):
        value = float(getattr(measured, f"{key}_px"))
        result[f"{key}_px"] = round(value, 2)
        if scale is not None:
            mm_per_px = scale.along if key == "length" else scale.across
            result[f"{key}_mm"] = round(value * mm_per_px, 3)
    if scale is not None:
        result["area_mm2"] = round(area * scale.along * scale.across, 3)
    return result


def uncertainty(counts: np.ndarray) -> float:
    """How unsure the model is of a photo's crack pixels, from 0 (sure, or there are none) to 1.

    The mean of 4 p (1 - p) over the pixels with p > .05; ``counts`` as `CrackPrediction.levels`.
    """
    p = np.arange(256) / 255.0
    counts = counts * (p > 0.05)
    return round(float((counts * 4 * p * (1 - p)).sum() / max(counts.sum(), 1)), 4)


def to_document(records: list[Record], settings: Record) -> Record:
    """A run's records as a COCO data set whose "annotations" are COCO results, with scores."""
    document: Record = {
        "settings": settings,
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "crack"}],
        "errors": [record for record in records if "error" in record],
    }
    for image_id, record in enumerate(records, start=1):
        if "error" in record:
            continue
        image = {"id": image_id, **record}
        document["images"].append(image)
        for instance in image.pop("instances"):
            ids = {"id": len(document["annotations"]) + 1, "image_id": image_id, "category_id": 1}
            document["annotations"].append({**ids, **instance, "iscrowd": 0})
    return document


def to_csv(records: list[Record]) -> str:
    """One row for each instance; photos without any, or unusable, have one row too."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for record in records:
        instances = record.get("instances", [])
        about = {**record, "count": "" if "error" in record else len(instances)}
        rows = []
        for number, instance in enumerate(instances, start=1):
            box = dict(zip(("x", "y", "box_width", "box_height"), instance["bbox"], strict=True))
            rows.append({**about, "instance": number, **instance, **box})
        table.writerows(rows or [about])
    return text.getvalue()
