"""COCO's average precision, for the data set's own instances and for three other definitions."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..convert.linking import link_pieces
from ..inference.prediction import CrackInstance

# What one instance is: what the data set says; a connected component; components linked over small
# gaps; all cracks of the photo together.
DEFINITIONS = ("own", "components", "linked", "single")
MAX_INSTANCES = 100  # of a photo count, the best: COCO's rule
_ALL_SIZES = [[0, 1e10]]


@dataclass(frozen=True)
class EncodedInstances:
    """Instances of one photo by one definition, as COCO's run-length codes of full size.

    Attributes:
        size: height and width of the photo, px.
        truth: of the ground truth.
        predicted: of the prediction, with their scores.
    """

    size: tuple[int, int]
    truth: tuple[dict[str, Any], ...]
    predicted: tuple[tuple[dict[str, Any], float], ...]


def encode_instances(
    size: tuple[int, int],
    truth: Sequence[CrackInstance],
    drawn: Sequence[CrackInstance],
    rejected: Sequence[CrackInstance],
    link_gap: float,
) -> dict[str, EncodedInstances]:
    """A photo's instances by each of `DEFINITIONS`.

    Args:
        size: height and width of the photo, px.
        truth: the data set's instances.
        drawn: the prediction's.
        rejected: those scored too low to be drawn; they are joined among themselves only.
        link_gap: px, of the definition "linked".
    """
    true, found, below = (
        instances_by_definition(x, size, link_gap) for x in (truth, drawn, rejected)
    )
    return {
        name: EncodedInstances(
            size,
            tuple(_encode(x, size) for x in true[name]),
            tuple((_encode(x, size), x.score) for x in [*found[name], *below[name]]),
        )
        for name in DEFINITIONS
    }


def instances_by_definition(
    instances: Sequence[CrackInstance], size: tuple[int, int], link_gap: float
) -> dict[str, list[CrackInstance]]:
    """The same pixels as instances by each of `DEFINITIONS`, scored like their best pixel."""
    scores = paint_scores(instances, size)
    mask = (scores > 0).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    boxes = stats[:, :4] + np.pad(stats[:, :2], ((0, 0), (2, 0)))  # x0, y0, x1, y1
    groups = {
        "components": np.arange(count),
        "linked": link_pieces(labels, count - 1, link_gap),
        "single": np.minimum(np.arange(count), 1),
    }
    joined = {name: _join(group, labels, boxes, scores) for name, group in groups.items()}
    return {"own": list(instances), **joined}


def paint_scores(instances: Sequence[CrackInstance], size: tuple[int, int]) -> NDArray[np.float32]:
    """The highest score among the instances that hold each pixel: shape (H, W), 0 where none."""
    painted = np.zeros(size, np.float32)
    for instance in instances:
        x0, y0, x1, y1 = instance.box
        window = painted[y0:y1, x0:x1]
        np.maximum(window, instance.mask * np.float32(instance.score), out=window)
    return painted


def average_precision(photos: Sequence[EncodedInstances], kind: str) -> dict[str, float]:
    """COCO's AP (mean over IoU .5 to .95), AP50 and AP75, in percent, by pycocotools.

    Args:
        photos: of the whole set.
        kind: "segm" or "bbox".

    Returns:
        an empty dictionary for a set without a true instance.
    """
    truth = _as_coco(photos, [[(rle, 1.0) for rle in photo.truth] for photo in photos])
    found = _as_coco(photos, [photo.predicted for photo in photos])
    with contextlib.redirect_stdout(io.StringIO()):
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


def _join(
    group: NDArray[np.integer],
    labels: NDArray[np.int32],
    boxes: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> list[CrackInstance]:
    """One instance of the components that have the same number in ``group``, from 1 on."""
    found = []
    for number in range(1, int(group.max()) + 1):
        x0, y0 = boxes[group == number, :2].min(axis=0).tolist()
        x1, y1 = boxes[group == number, 2:].max(axis=0).tolist()
        mask = group[labels[y0:y1, x0:x1]] == number
        score = float(scores[y0:y1, x0:x1][mask].max())
        found.append(CrackInstance(score, (x0, y0, x1, y1), mask))
    return found


def _encode(instance: CrackInstance, size: tuple[int, int]) -> dict[str, Any]:
    frame = np.zeros(size, np.uint8, order="F")
    x0, y0, x1, y1 = instance.box
    frame[y0:y1, x0:x1] = instance.mask
    return coco_mask.encode(frame)


def _as_coco(
    photos: Sequence[EncodedInstances],
    instances: Sequence[Sequence[tuple[dict[str, Any], float]]],
) -> COCO:
    annotations: list[Mapping[str, Any]] = []
    for image_id, rows in enumerate(instances):
        for rle, score in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": rle,
                    "area": float(coco_mask.area(rle)),
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "iscrowd": 0,
                    "score": score,
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": i, "height": x.size[0], "width": x.size[1]} for i, x in enumerate(photos)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "crack"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
