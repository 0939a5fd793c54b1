"""Ground-truth masks of a registered dataset, decoded one photo at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from detectron2.data import DatasetCatalog

from ..errors import CrackError
from .pixel_metrics import BoolMask


class GroundTruth:
    """Union of each photo's annotations, by image id; only the compressed masks are kept."""

    def __init__(self, dataset_name: str) -> None:
        """Read the records of a name in DatasetCatalog."""
        self.dataset_name = dataset_name
        self._records = {record["image_id"]: record for record in DatasetCatalog.get(dataset_name)}

    def records(self) -> list[dict[str, Any]]:
        """All records, in the dataset's order."""
        return list(self._records.values())

    def record(self, image_id: Any) -> dict[str, Any]:
        """The photo's record in Detectron2's dataset format.

        Raises:
            CrackError: the dataset has no such photo.
        """
        try:
            return self._records[image_id]
        except KeyError:
            raise CrackError(
                f"dataset {self.dataset_name} has no photo with image_id {image_id}; evaluate the "
                "model on the dataset that the evaluator was made for"
            ) from None

    def mask(self, image_id: Any) -> BoolMask:
        """Union of the photo's instance masks: bool, shape (H, W), at the photo's full size."""
        record = self.record(image_id)
        return union_mask(record.get("annotations", []), record["height"], record["width"])


def union_mask(annotations: list[dict[str, Any]], height: int, width: int) -> BoolMask:
    """Union of annotations (RLE or polygons, px) as bool of shape (height, width)."""
    encoded = []
    for annotation in annotations:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, list):
            encoded.extend(coco_mask.frPyObjects(segmentation, height, width))
        else:
            encoded.append(segmentation)
    if not encoded:
        return np.zeros((height, width), dtype=bool)
    return coco_mask.decode(coco_mask.merge(encoded)).astype(bool)
