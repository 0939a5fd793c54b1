"""From a crack map and a detector's boxes to instances: which pixels are one crack, and how surely.

An instance is a crack of the map: connected pixels, and pieces that continue each other across a
small gap. Boxes cut badly, since cracks run on where a box ends; the detector gives a score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.structures import BitMasks, Boxes, Instances
from scipy.ndimage import find_objects

from ..convert.linking import link_pieces, renumber


@dataclass(frozen=True)
class Detection:
    """What the detector found."""

    score: float  # in [0, 1]
    box: tuple[int, int, int, int]  # x0, y0, x1, y1, px, half-open, within the photo
    # (y1 - y0, x1 - x0) bool, the coarse mask of a mask branch; None: all of the box.
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Components:
    """The cracks of a crack map, each of one or several connected components."""

    labels: np.ndarray  # (H, W) int; 0 is no crack, 1 … N number the cracks
    boxes: np.ndarray  # (N, 4) int, XYXY, px, half-open
    # (N,) in [0, 1], what the map alone says: mean probability, less for short ones.
    confidence: np.ndarray

    def scores(self, detections: Sequence[Detection], settings: CfgNode) -> np.ndarray:
        """How sure detector and map are of each crack, (N,): the geometric mean of both scores."""
        ranked = sorted(detections, key=lambda x: x.score)
        scores = np.array([0.0, *(x.score for x in ranked)])
        painted = np.zeros(self.labels.shape, np.int32)  # with the rank of the best over a pixel
        for rank, detection in enumerate(ranked, start=1):
            x0, y0, x1, y1 = detection.box
            painted[y0:y1, x0:x1][... if detection.mask is None else detection.mask] = rank
        inside = self.labels > 0
        owners = self.labels[inside].astype(np.int64)
        # Crack by crack, the best pixels first.
        key = np.sort(owners * len(scores) - painted[inside])
        area = np.bincount(owners, minlength=len(self.boxes) + 1)[1:]
        # What 40 % of a crack's pixels reach: part of a long crack may lie outside every box.
        deciding = np.cumsum(area) - area + (0.4 * (area - 1)).astype(int)
        detector = np.maximum(scores[-key[deciding] % len(scores)], settings.DETECTOR_FLOOR)
        return np.sqrt(detector * self.confidence)

    def claimed(self, probability: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """The crack map, (H, W) uint8, zero outside the cracks that ``drawn``, (N,) bool, marks."""
        return probability * np.concatenate([[False], drawn]).take(self.labels)


def find_components(probability: np.ndarray, settings: CfgNode) -> Components:
    """The cracks of a map, (H, W) uint8 x 255: pixels that touch, linked across small gaps."""
    above = (probability > 255 * settings.LINK_THRESHOLD).view(np.uint8)
    count, labels = cv2.connectedComponents(above, connectivity=8)
    crack_of = link_pieces(labels, count - 1, settings.LINK_GAP)
    if crack_of.max() < count - 1:
        labels = renumber(labels, crack_of)
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in find_objects(labels)]
    boxes = np.array(corners, np.int64).reshape(-1, 4)
    inside = labels > 0
    owners = labels[inside]
    area, total = (np.bincount(owners, x, len(boxes) + 1) for x in (None, probability[inside]))
    length = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    mean = total[1:] / (255 * area[1:])
    # A crack shorter than 80 px is less sure to be one, in proportion.
    return Components(labels, boxes, mean * np.minimum(1.0, length / 80))


def to_detections(instances: Instances) -> list[Detection]:
    """Detectron2's instances at the photo's size, with masks or boxes widened by a margin."""
    (height, width), scores = instances.image_size, instances.scores.tolist()
    if not instances.has("pred_masks"):
        corners = instances.pred_boxes.tensor.float().cpu().numpy()
        # They end a little early on the faint tips of a crack.
        margin = 0.05 * (corners[:, 2:] - corners[:, :2])
        low = np.floor(corners[:, :2] - margin).clip(min=0)
        high = np.minimum(np.ceil(corners[:, 2:] + margin), (width, height))
        boxes = np.concatenate([low, high], axis=1).astype(int).tolist()
        return [Detection(score, tuple(box)) for score, box in zip(scores, boxes, strict=True)]
    masks = instances.pred_masks.cpu()
    boxes = BitMasks(masks).get_bounding_boxes().tensor.long().tolist()
    return [
        Detection(score, (x0, y0, x1, y1), mask[y0:y1, x0:x1].copy())
        for score, (x0, y0, x1, y1), mask in zip(scores, boxes, masks.numpy(), strict=True)
    ]


def add_map_proposals(
    proposals: list[Instances], probabilities: np.ndarray, settings: CfgNode
) -> tuple[list[Instances], list[Components]]:
    """Append the 50 surest cracks of each photo's crack map to its proposals; return both.

    In training they are the false alarms that the box head has to learn to reject; at prediction
    they are boxes that fit a thin crack better than any anchor. ``probabilities`` are crack maps,
    (N, H, W) uint8, x 255, padded to one size.
    """
    boxes, components = [], []
    for given, probability in zip(proposals, probabilities, strict=True):
        height, width = given.image_size
        found = find_components(probability[:height, :width], settings)
        best = (-found.confidence).argsort(kind="stable")[:50]
        corners = torch.from_numpy(found.boxes[best]).to(given.proposal_boxes.tensor)
        boxes.append(Boxes(corners))
        components.append(found)
    # Detectron2's function appends boxes of any origin; these are no ground truth.
    return add_ground_truth_to_proposals(boxes, proposals), components
