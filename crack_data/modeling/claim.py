"""Which pixels of the crack map belong to which instance."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import Instances

# Boxes end a little early on the faint tips of a crack: each side moves out by this share of it.
_MARGIN = 0.05


def claim_pixels(
    probability: torch.Tensor, instances: Instances, threshold: float, score_threshold: float
) -> dict[str, Any]:
    """Give each instance the crack pixels within its region: its coarse mask, else its box.

    Args:
        probability: crack map of the photo, (H, W).
        instances: detections at the photo's size: pred_boxes, scores, perhaps pred_masks.
        threshold: a pixel above it is crack.
        score_threshold: instances scored below it keep their masks (average precision needs them)
            but leave no trace in the map.

    Returns:
        {"instances": the same with pred_masks (N, H, W) bool, "crack_map": (H, W)}.
    """
    regions = _regions(instances, probability.shape)
    instances.pred_masks = regions & (probability > threshold)
    claimed = regions[instances.scores >= score_threshold].any(dim=0)
    return {"instances": instances, "crack_map": probability * claimed}


def _regions(instances: Instances, shape: torch.Size) -> torch.Tensor:
    if instances.has("pred_masks"):
        return instances.pred_masks
    height, width = shape
    boxes = instances.pred_boxes.tensor
    margin = _MARGIN * (boxes[:, 2:] - boxes[:, :2])
    start, end = boxes[:, :2] - margin, boxes[:, 2:] + margin
    y = torch.arange(height, device=boxes.device) + 0.5
    x = torch.arange(width, device=boxes.device) + 0.5
    in_rows = (y >= start[:, 1:]) & (y <= end[:, 1:])
    in_columns = (x >= start[:, :1]) & (x <= end[:, :1])
    return in_rows[:, :, None] & in_columns[:, None, :]
