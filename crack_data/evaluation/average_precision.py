"""COCO's average precision, for the data set's own instances and for three other definitions."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.measure import regionprops

from ..convert.coco import encode_mask
from ..convert.linking import link_pieces
from ..inference.prediction import CrackInstance, Cracks

Size = tuple[int, int]  # height and width of a photo, px
Scored = list[tuple[dict[str, Any], float]]  # run-length codes of full size, and scores
EncodedInstances = tuple[Scored, Scored]  # the true and the predicted ones by one definition


def encode_instances(
    size: Size, truth: Cracks, drawn: Cracks, rejected: Cracks, link_gap: float
) -> dict[str, EncodedInstances]:
    """A photo's `instances_by_definition`; those ``rejected``, not drawn, join only each other."""
    given = (truth, drawn, rejected)
    true, found, below = (instances_by_definition(x, size, link_gap) for x in given)

    def encode(instances: Cracks) -> Scored:
        return [(encode_mask(x.mask, *x.box[:2], size), x.score) for x in instances]

    return {name: (encode(true[name]), encode(found[name] + below[name])) for name in true}


def instances_by_definition(
    instances: Cracks, size: Size, link_gap: float
) -> dict[str, list[CrackInstance]]:
    """The same pixels as instances by four definitions, scored like their best pixel.

    "own" is what the data set says; "components" are connected, "linked" ones joined over gaps of
    ``link_gap`` px; "single" is all cracks of the photo together.
    """
    scores = paint_scores(instances, size)
    count, labels = cv2.connectedComponents((scores > 0).view(np.uint8), connectivity=8)
    groups = {
        "components": np.arange(count),
        "linked": link_pieces(labels, count - 1, link_gap),
        "single": np.minimum(np.arange(count), 1),
    }
    found = {"own": list(instances)}
    for name, group in groups.items():
        found[name] = []
        for region in regionprops(group[labels], scores):
            y0, x0, y1, x1 = region.bbox
            score = float(region.intensity_max)
            found[name].append(CrackInstance(score, (x0, y0, x1, y1), region.image))
    return found


def paint_scores(instances: Cracks, size: Size) -> NDArray[np.float32]:
    """The highest score among the instances that hold each pixel: shape (H, W), 0 where none."""
    painted = np.zeros(size, np.float32)
    for instance in instances:
        x0, y0, x1, y1 = instance.box
        window = painted[y0:y1, x0:x1]
        np.maximum(window, instance.mask * np.float32(instance.score), out=window)
    return painted


def average_precision(photos: Sequence[EncodedInstances], kind: str) -> dict[str, float]:
    """COCO's AP (mean over IoU .5 to .95), AP50 and AP75, in percent; kind "segm" or "bbox"."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*map(_as_coco, zip(*photos, strict=True)), kind)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]  # the best of a photo count: COCO's rule
        evaluation.evaluate()
        evaluation.accumulate()
    precision = 100 * evaluation.eval["precision"][:, :, 0, 0, 0]  # (10 IoUs, 101 recalls)
    if (precision < 0).all():  # no true instance
        return {}
    at = {"AP": precision, "AP50": precision[0], "AP75": precision[5]}
    return {name: float(value.mean()) for name, value in at.items()}


def _as_coco(photos: Sequence[Scored]) -> COCO:
    """Each photo's instances as pycocotools takes them, which adds their areas and boxes."""
    coco = COCO()
    coco.dataset = {
        # Read, but of no use: run-length codes have their size.
        "images": [{"id": number, "height": 0, "width": 0} for number in range(len(photos))],
        "annotations": [],
        "categories": [{"id": 1, "name": "crack"}],
    }
    coco.createIndex()
    rows = [
        {"image_id": image_id, "category_id": 1, "segmentation": rle, "score": score}
        for image_id, instances in enumerate(photos)
        for rle, score in instances
    ]
    return coco.loadRes(rows) if rows else coco
