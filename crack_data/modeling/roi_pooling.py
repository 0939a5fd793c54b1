"""RoIAlign that is fast on a CPU, in training too: a weighted sum of feature rows.

A bin is the mean of bilinear samples, hence a fixed weighted sum of feature positions. With the
features as rows of a table that is what an embedding bag computes, and PyTorch's is vectorised over
channels and uses all threads, where torchvision's RoIAlign does neither.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from detectron2.modeling import poolers
from detectron2.structures import Boxes
from torch import nn


class BagPooler(nn.Module):
    """Gives what Detectron2's `ROIPooler` gives, gradients included, in float32.

    For "ROIAlignV2" (He et al. 2017, arXiv:1703.06870, half-pixel centres) with a fixed sampling
    ratio, and boxes within the photo and not empty: Detectron2 clips and drops the others.
    """

    def __init__(self, pooler: poolers.ROIPooler) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, features: Sequence[torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        """Pool (N, C, H, W) features of each level under each photo's boxes: (boxes, C, h, w)."""
        # Photo by photo, level by level and row by row: (N, positions, C).
        tables = torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in features], dim=1).float()
        photos, corners = poolers.convert_boxes_to_pooler_format(boxes).split([1, 4], dim=1)
        pooler = self.pooler
        height, width = pooler.output_size
        between = pooler.min_level, pooler.max_level
        canonical = pooler.canonical_box_size, pooler.canonical_level
        levels = poolers.assign_boxes_to_levels(boxes, *between, *canonical)
        scales = torch.tensor([x.spatial_scale for x in pooler.level_poolers])
        x0, y0, x1, y1 = (corners * scales[levels, None] - 0.5).unbind(dim=1)
        grids = torch.tensor([x.shape[2:] for x in features])
        grid, size = grids[levels], grids.prod(dim=1)
        first = (size.cumsum(0) - size)[levels] + photos[:, 0].long() * tables.shape[1]
        samples = pooler.level_poolers[0].sampling_ratio
        y, weight_y = _taps(y0, y1, grid[:, 0], height, samples)
        x, weight_x = _taps(x0, x1, grid[:, 1], width, samples)
        y = y * grid[:, 1, None, None] + first[:, None, None]
        index = y[:, :, None, :, None] + x[:, None, :, None, :]
        weight = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
        index, weight = (x.view(-1, (2 * samples) ** 2) for x in (index, weight))
        rows = tables.flatten(0, 1)
        bags = F.embedding_bag(index, rows, per_sample_weights=weight, mode="sum")
        return bags.view(len(corners), height, width, tables.shape[2]).permute(0, 3, 1, 2)


def _taps(
    start: torch.Tensor, stop: torch.Tensor, length: torch.Tensor, bins: int, samples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions along one axis of boxes from start to stop, (N,), on levels of so many positions.

    Returns them and their weights, both (N, bins, 2 x samples).
    """
    step = (torch.arange(bins * samples) + 0.5) / (bins * samples)
    last = (length[:, None] - 1).float()
    place = start[:, None] + (stop - start)[:, None] * step
    place = torch.minimum(place.clamp(min=0), last)
    low = place.floor()
    part = place - low
    positions = torch.stack([low, torch.minimum(low + 1, last)], dim=-1).long()
    weights = torch.stack([1 - part, part], dim=-1) / samples
    shape = (len(start), bins, 2 * samples)
    return positions.view(shape), weights.view(shape)


def use_bag_pooling(model: nn.Module) -> None:
    """Replace the poolers of a model on the CPU that have a fixed sampling ratio."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            levels: Any = child.level_poolers if isinstance(child, poolers.ROIPooler) else []
            if levels and all(
                isinstance(x, ROIAlign) and x.aligned and x.sampling_ratio > 0 for x in levels
            ):
                setattr(parent, name, BagPooler(child))
