"""From a crack map and a detector's boxes to instances: which crack is one, and how sure it is.

What a data set calls an instance is a connected component of its mask, so that is what an instance
is here: pixels of the map that hang together. A box alone cuts badly, since cracks run on where a
box ends and boxes hold several cracks. The detector's part is to vouch for a component: the score
says how sure both it and the map are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from ..convert.linking import link_pieces

# Boxes end a little early on the faint tips of a crack: each side moves out by this share of it.
_MARGIN = 0.05
# A component has the detector's score that this share of its pixels reaches: part of a long crack
# may lie outside every box.
_VOUCHED_SHARE = 0.4
# A component shorter than this, px, is less sure to be a crack, in proportion.
_FULL_LENGTH = 80
# At most this many instances a photo, the best.
_MAX_INSTANCES = 100


@dataclass(frozen=True)
class Components:
    """Connected components of a crack map, linked to cracks.

    Attributes:
        labels: (H, W) int; 0 is no crack, 1 … N number the cracks.
        boxes: (N, 4) int, XYXY, px, half-open.
        confidence: (N,) float in [0, 1], what the map alone says: mean probability, less for
            short ones.
    """

    labels: np.ndarray
    boxes: np.ndarray
    confidence: np.ndarray


def find_components(probability: np.ndarray, link_threshold: float, link_gap: float) -> Components:
    """Join the pixels above ``link_threshold`` that touch, and the pieces that continue each other.

    Args:
        probability: (H, W) float32.
        link_threshold: MODEL.CRACK_MAP.LINK_THRESHOLD.
        link_gap: MODEL.CRACK_MAP.LINK_GAP.
    """
    above = (probability > link_threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    crack_of = link_pieces(labels, count - 1, link_gap)
    labels = crack_of[labels]
    cracks = int(crack_of.max(initial=0))
    x, y, width, height, area = stats[1:].T
    boxes = np.empty((cracks, 4), np.int64)
    boxes[:, :2] = np.iinfo(np.int32).max
    boxes[:, 2:] = 0
    np.minimum.at(boxes[:, :2], crack_of[1:] - 1, np.stack([x, y], axis=1))
    np.maximum.at(boxes[:, 2:], crack_of[1:] - 1, np.stack([x + width, y + height], axis=1))
    pixels = labels > 0
    total = np.bincount(labels[pixels], weights=probability[pixels], minlength=cracks + 1)[1:]
    area = np.bincount(crack_of[1:], weights=area, minlength=cracks + 1)[1:]
    length = np.minimum(1.0, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) / _FULL_LENGTH)
    return Components(labels, boxes, total / area * length)


def claim_pixels(
    probability: torch.Tensor,
    instances: Instances,
    *,
    link_threshold: float,
    link_gap: float,
    threshold: float,
    score_threshold: float,
) -> dict[str, Any]:
    """Make an instance of each component that a detection vouches for.

    Args:
        probability: crack map of the photo, (H, W).
        instances: detections at the photo's size: pred_boxes, scores, perhaps coarse pred_masks.
        link_threshold, link_gap: see `find_components`.
        threshold: a pixel above it is crack.
        score_threshold: instances scored below it are returned (average precision needs them) but
            leave no trace in the map.

    Returns:
        {"instances": Instances with pred_boxes, scores, pred_classes and pred_masks (N, H, W)
        bool, best first, "crack_map": (H, W), zero where no instance claims the pixel}. An
        instance's score is the geometric mean of the detector's and the map's.
    """
    components = find_components(probability.cpu().numpy(), link_threshold, link_gap)
    scores = score_components(components, instances)
    claimed = claimed_pixels(components, scores, score_threshold)
    return {
        "instances": _to_instances(components, scores, probability, threshold),
        "crack_map": probability * torch.from_numpy(claimed).to(probability.device),
    }


def claimed_pixels(
    components: Components, scores: np.ndarray, score_threshold: float
) -> np.ndarray:
    """Which pixels belong to a component scored at least ``score_threshold``: (H, W) bool."""
    return np.concatenate([[False], scores >= score_threshold])[components.labels]


def best_components(scores: np.ndarray) -> np.ndarray:
    """Positions of the components that become instances, best first."""
    return np.argsort(-scores, kind="stable")[:_MAX_INSTANCES]


def score_components(components: Components, instances: Instances) -> np.ndarray:
    """How sure detector and map are of each component, (N,): the geometric mean of both.

    Args:
        components: of the photo's crack map.
        instances: as in `claim_pixels`.
    """
    return np.sqrt(_vouched_scores(components, instances) * components.confidence)


def least_detector_score(score_threshold: float) -> float:
    """Detections scored lower cannot lift any component to ``score_threshold``."""
    # The map's confidence is at most 1.
    return score_threshold**2


def _vouched_scores(components: Components, instances: Instances) -> np.ndarray:
    """The detector's score of each component, (N,)."""
    labels = components.labels
    rows, columns = np.nonzero(labels)
    owner = labels[rows, columns] - 1
    score = _score_map(instances, labels.shape)[rows, columns]
    order = np.lexsort((-score, owner))
    counts = np.bincount(owner, minlength=len(components.boxes))
    first = np.cumsum(counts) - counts
    return score[order][first + (_VOUCHED_SHARE * (counts - 1)).astype(np.int64)]


def _score_map(instances: Instances, shape: tuple[int, ...]) -> np.ndarray:
    """For each pixel the score of the best detection over it, (H, W) float32."""
    painted = np.zeros(shape, np.float32)
    scores = instances.scores.float().cpu().numpy()
    boxes = _widened(instances.pred_boxes.tensor.float().cpu().numpy(), shape)
    coarse = instances.pred_masks.cpu().numpy() if instances.has("pred_masks") else None
    for index in np.argsort(scores):
        x0, y0, x1, y1 = boxes[index]
        if coarse is None:
            painted[y0:y1, x0:x1] = scores[index]
        else:
            painted[coarse[index]] = scores[index]
    return painted


def _widened(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    margin = _MARGIN * (boxes[:, 2:] - boxes[:, :2])
    start = np.floor(boxes[:, :2] - margin)
    stop = np.ceil(boxes[:, 2:] + margin)
    limit = np.array([shape[1], shape[0]])
    return np.concatenate([start.clip(0, limit), stop.clip(0, limit)], axis=1).astype(np.int64)


def _to_instances(
    components: Components, scores: np.ndarray, probability: torch.Tensor, threshold: float
) -> Instances:
    best = best_components(scores)
    best = best[scores[best] > 0]
    crack = (probability > threshold).cpu()
    masks = torch.from_numpy(components.labels[None] == (best + 1)[:, None, None]) & crack
    drawn = masks.flatten(1).any(dim=1)
    instances = Instances(tuple(probability.shape))
    instances.pred_masks = masks[drawn].to(probability.device)
    instances.pred_boxes = Boxes(_tight_boxes(components.boxes[best], masks)[drawn])
    instances.scores = torch.from_numpy(scores[best]).float()[drawn]
    instances.pred_classes = torch.zeros(int(drawn.sum()), dtype=torch.int64)
    return instances.to(probability.device)


def _tight_boxes(boxes: np.ndarray, masks: torch.Tensor) -> torch.Tensor:
    """Shrink (N, 4) boxes to their (N, H, W) masks; empty masks keep theirs."""
    tight = torch.from_numpy(boxes).float()
    for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        rows, columns = masks[index, y0:y1, x0:x1].nonzero(as_tuple=True)
        if len(rows):
            low = torch.stack([columns.min() + x0, rows.min() + y0])
            high = torch.stack([columns.max() + x0, rows.max() + y0]) + 1
            tight[index] = torch.cat([low, high])
    return tight
