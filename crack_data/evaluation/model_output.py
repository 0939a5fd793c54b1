"""What a Detectron2 model says about one photo, as one mask and one 8-bit map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.structures import Instances

from ..errors import CrackError
from .pixel_metrics import BoolMask, ByteMap


def mask_and_map(output: Mapping[str, Any], score_threshold: float) -> tuple[BoolMask, ByteMap]:
    """The drawn mask and the crack map of one photo.

    Args:
        output: one element of a model's output: "instances" with scores and pred_masks
            (bool, shape (N, H, W)) and, from models that have one, "crack_map" (shape (H, W),
            probability).
        score_threshold: instances scored below it are not drawn.

    Returns:
        bool of shape (H, W): the union of the drawn instances' masks; and uint8 of shape (H, W):
        the crack map x 255, rounded. Without a crack map each pixel takes the highest score
        among the instances that cover it.

    Raises:
        CrackError: the model predicts no instance masks.
    """
    instances = output.get("instances")
    if instances is None or not instances.has("pred_masks"):
        raise CrackError("the model predicts no instance masks; set MODEL.MASK_ON True")
    crack_map = output.get("crack_map")
    levels = _scores_as_map(instances) if crack_map is None else _quantize(crack_map)
    drawn = instances.pred_masks[instances.scores >= score_threshold].any(dim=0)
    return drawn.cpu().numpy().astype(bool), levels.cpu().numpy()


def _scores_as_map(instances: Instances) -> torch.Tensor:
    levels = torch.zeros(instances.image_size, dtype=torch.uint8, device=instances.scores.device)
    for mask, level in zip(instances.pred_masks, _quantize(instances.scores), strict=True):
        torch.maximum(levels, mask * level, out=levels)
    return levels


def _quantize(probability: torch.Tensor) -> torch.Tensor:
    return (probability.float() * 255).round().clamp(0, 255).to(torch.uint8)


def check_size(mask: BoolMask, size: tuple[int, ...], photo: str) -> None:
    """Raise CrackError unless the prediction has the photo's size (H, W) in the dataset."""
    if mask.shape != size:
        raise CrackError(
            f"{photo}: the prediction is {mask.shape[1]}x{mask.shape[0]} px but the dataset says "
            f"{size[1]}x{size[0]}; correct width and height in its JSON"
        )
