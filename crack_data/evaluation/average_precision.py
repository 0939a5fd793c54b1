"""COCO's average precision, for the data set's own instances and for three other definitions."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import find_objects

from ..convert.coco import encode_mask
from ..convert.linking import link_pieces
from ..inference.prediction import CrackInstance

# What one instance is: what the data set says; a connected component; components linked over small
# gaps; all cracks of the photo together.
DEFINITIONS = ("own", "components", "linked", "single")
MAX_INSTANCES = 100  # of a photo count, the best: COCO's rule
_ALL_SIZES = [[0, 1e10]]

Scored = list[tuple[dict[str, Any], float]]  # run-length codes of full size, and scores


class EncodedInstances(NamedTuple):
    """Instances of one photo by one definition; ``size`` is its height and width, px."""

    size: tuple[int, int]
    truth: Scored
    predicted: Scored


def encode_instances(
    size: tuple[int, int],
    truth: Sequence[CrackInstance],
    drawn: Sequence[CrackInstance],
    rejected: Sequence[CrackInstance],
    link_gap: float,
) -> dict[str, EncodedInstances]:
    """A photo's true and predicted instances by each of `DEFINITIONS`.

    Args:
        size: height and width of the photo, px.
        truth, drawn: the instances.
        rejected: those scored too low to be drawn; they are joined among themselves only.
        link_gap: px, of the definition "linked".
    """
    true, found, below = (
        instances_by_definition(x, size, link_gap) for x in (truth, drawn, rejected)
    )

    def encode(instances: list[CrackInstance]) -> Scored:
        masks = [(x.mask.view(np.uint8), *x.box[:2], x.score) for x in instances]
        return [(encode_mask(mask, x, y, size), score) for mask, x, y, score in masks]

    return {
        name: EncodedInstances(size, encode(true[name]), encode(found[name] + below[name]))
        for name in DEFINITIONS
    }


def instances_by_definition(
    instances: Sequence[CrackInstance], size: tuple[int, int], link_gap: float
) -> dict[str, list[CrackInstance]]:
    """The same pixels as instances by each of `DEFINITIONS`, scored like their best pixel."""
    scores = paint_scores(instances, size)
    count, labels = cv2.connectedComponents((scores > 0).view(np.uint8), connectivity=8)
    groups = {
        "components": np.arange(count),
        "linked": link_pieces(labels, count - 1, link_gap),
        "single": np.minimum(np.arange(count), 1),
    }
    found = {"own": list(instances)}
    for name, group in groups.items():
        numbers, found[name] = group[labels], []
        for number, (rows, columns) in enumerate(find_objects(numbers), start=1):
            mask = numbers[rows, columns] == number
            box = columns.start, rows.start, columns.stop, rows.stop
            score = float(scores[rows, columns][mask].max())
            found[name].append(CrackInstance(score, box, mask))
    return found


def paint_scores(instances: Sequence[CrackInstance], size: tuple[int, int]) -> NDArray[np.float32]:
    """The highest score among the instances that hold each pixel: shape (H, W), 0 where none."""
    painted = np.zeros(size, np.float32)
    for instance in instances:
        x0, y0, x1, y1 = instance.box
        window = painted[y0:y1, x0:x1]
        np.maximum(window, instance.mask * np.float32(instance.score), out=window)
    return painted


def average_precision(photos: Sequence[EncodedInstances], kind: str) -> dict[str, float]:
    """COCO's AP (mean over IoU .5 to .95), AP50 and AP75 of a set, in percent, by pycocotools.

    ``kind`` is "segm" or "bbox". A set without a true instance has none of them.
    """
    sizes = [photo.size for photo in photos]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _as_coco(sizes, [photo.truth for photo in photos])
        found = _as_coco(sizes, [photo.predicted for photo in photos])
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = _ALL_SIZES, ["all"]
        evaluation.params.maxDets = [MAX_INSTANCES]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = 100 * evaluation.eval["precision"][:, :, 0, 0, 0]  # (10 IoUs, 101 recalls)
    if (precision < 0).all():
        return {}
    at = {"AP": precision, "AP50": precision[0], "AP75": precision[5]}
    return {name: float(value.mean()) for name, value in at.items()}


def _as_coco(sizes: Sequence[tuple[int, int]], instances: Sequence[Scored]) -> COCO:
    rows = [(image_id, *row) for image_id, each in enumerate(instances) for row in each]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": 1,
                "segmentation": rle,
                "area": float(coco_mask.area(rle)),
                "bbox": coco_mask.toBbox(rle).tolist(),
                "iscrowd": 0,
                "score": score,
            }
            for number, (image_id, rle, score) in enumerate(rows, start=1)
        ],
        "categories": [{"id": 1, "name": "crack"}],
    }
    coco.createIndex()
    return coco
