"""RoIAlign as a weighted sum of feature rows.

A RoIAlign bin is the mean of bilinear samples, hence a fixed weighted sum of feature positions.
With the features as rows of a table that is what an embedding bag computes, and PyTorch's is
vectorised over channels and uses all threads, where torchvision's RoIAlign does neither.
Same result as Detectron2's "ROIAlignV2" (He et al. 2017, arXiv:1703.06870, half-pixel centres)
for boxes within the photo and not empty: Detectron2 clips and drops the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import nn

GridSize = tuple[int, int]


@dataclass(frozen=True)
class FeatureTable:
    """Feature maps of one photo as rows.

    Attributes:
        rows: (positions, C) float32; level by level, row by row.
        grids: (rows, columns) of each level.
    """

    rows: torch.Tensor
    grids: Sequence[GridSize]


class BagPooler(nn.Module):
    """A `ROIPooler` that computes by `pool`, gradients included, for a whole batch."""

    def __init__(self, pooler: ROIPooler) -> None:
        """Args: pooler: one that `knows_pooler`."""
        super().__init__()
        self.pooler = pooler

    def forward(self, features: Sequence[torch.Tensor], boxes: Sequence[Boxes]) -> torch.Tensor:
        """See Detectron2's pooler; float32 whatever the features are."""
        grids = [(x.shape[2], x.shape[3]) for x in features]
        rows = torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in features], dim=1).float()
        photos = zip(rows, boxes, strict=True)
        return torch.cat([pool(FeatureTable(x, grids), y, self.pooler) for x, y in photos])


def knows_pooler(pooler: Any) -> bool:
    """Whether `pool` gives what a pooler gives."""
    return isinstance(pooler, ROIPooler) and all(
        isinstance(level, ROIAlign) and level.aligned for level in pooler.level_poolers
    )


def use_bag_pooling(model: nn.Module) -> None:
    """Replace the poolers of a model on the CPU where each bin has the same number of samples."""
    child: Any
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if knows_pooler(child) and child.level_poolers[0].sampling_ratio > 0:
                setattr(parent, name, BagPooler(child))


def pool(table: FeatureTable, boxes: Boxes, pooler: ROIPooler) -> torch.Tensor:
    """What ``pooler`` computes for one photo.

    Args:
        table: the features that the pooler takes.
        boxes: N boxes on the photo, XYXY, px.
        pooler: gives output size, scales and sampling ratio.

    Returns:
        (N, C, height, width) of the pooler's output size.
    """
    out_height, out_width = pooler.output_size
    pooled = torch.empty(len(boxes), out_height * out_width, table.rows.shape[1])
    if len(boxes):
        levels = assign_boxes_to_levels(
            [boxes],
            pooler.min_level,
            pooler.max_level,
            pooler.canonical_box_size,
            pooler.canonical_level,
        )
        spans = _Spans.of(boxes.tensor, levels, table.grids, pooler)
        for samples_y, samples_x in spans.samples.unique(dim=0).tolist():
            chosen = (spans.samples == torch.tensor([samples_y, samples_x])).all(dim=1).nonzero()
            pooled[chosen[:, 0]] = spans.pick(chosen[:, 0]).gather(
                table.rows, pooler.output_size, (samples_y, samples_x)
            )
    channels = table.rows.shape[1]
    return pooled.transpose(1, 2).reshape(len(boxes), channels, out_height, out_width)


@dataclass(frozen=True)
class _Spans:
    """Boxes on their level: start and length, each (N, 2) as y, x, in positions."""

    start: torch.Tensor
    length: torch.Tensor
    grid: torch.Tensor  # (N, 2) long: rows, columns of the level
    offset: torch.Tensor  # (N,) long: the level's first row in the table
    samples: torch.Tensor  # (N, 2) long: samples per bin along y, x

    @classmethod
    def of(
        cls,
        boxes: torch.Tensor,
        levels: torch.Tensor,
        grids: Sequence[GridSize],
        pooler: ROIPooler,
    ) -> _Spans:
        scales = torch.tensor([x.spatial_scale for x in pooler.level_poolers])
        sizes = torch.tensor(grids)
        ends = sizes.prod(dim=1).cumsum(0)
        corners = boxes * scales[levels, None] - 0.5
        start, length = corners[:, [1, 0]], (corners[:, 2:] - corners[:, :2])[:, [1, 0]]
        ratio = pooler.level_poolers[0].sampling_ratio
        if ratio > 0:
            samples = torch.full((len(boxes), 2), ratio)
        else:
            samples = (length / torch.tensor(pooler.output_size)).ceil().long().clamp(min=1)
        offset = (ends - sizes.prod(dim=1))[levels]
        return cls(start, length, sizes[levels], offset, samples)

    def pick(self, index: torch.Tensor) -> _Spans:
        return _Spans(
            self.start[index],
            self.length[index],
            self.grid[index],
            self.offset[index],
            self.samples[index],
        )

    def gather(self, rows: torch.Tensor, bins: GridSize, samples: tuple[int, int]) -> torch.Tensor:
        """(N, bins, C) with the same number of samples for all boxes."""
        y, weight_y = self._taps(0, bins[0], samples[0])
        x, weight_x = self._taps(1, bins[1], samples[1])
        y = y * self.grid[:, 1, None, None] + self.offset[:, None, None]
        index = y[:, :, None, :, None] + x[:, None, :, None, :]
        weight = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
        taps = y.shape[2] * x.shape[2]
        bags = F.embedding_bag(
            index.view(-1, taps), rows, per_sample_weights=weight.view(-1, taps), mode="sum"
        )
        return bags.view(len(self.start), bins[0] * bins[1], -1)

    def _taps(self, axis: int, bins: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions along an axis and their weights, both (N, bins, 2 x samples)."""
        step = (torch.arange(bins * samples) + 0.5) / (bins * samples)
        last = (self.grid[:, axis, None] - 1).float()
        place = self.start[:, axis, None] + self.length[:, axis, None] * step
        place = torch.minimum(place.clamp(min=0), last)
        low = place.floor()
        high = torch.minimum(low + 1, last)
        part = place - low
        shape = (len(place), bins, 2 * samples)
        positions = torch.stack([low, high], dim=-1).view(shape).long()
        return positions, torch.stack([1 - part, part], dim=-1).view(shape) / samples
