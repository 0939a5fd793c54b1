"""The dense parts of an R-CNN as modules of their own, ready to be compiled."""

from __future__ import annotations

import copy

import torch
from detectron2.modeling import GeneralizedRCNN
from torch import nn

from ...modeling import CrackRCNN


class BottomPart(nn.Module):
    """The network below the FPN."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.bottom_up = model.backbone.bottom_up
        self.names = list(model.backbone.in_features)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map one normalised, padded photo, shape (1, 3, H, W), to the features the FPN reads."""
        features = self.bottom_up(images)
        return tuple(features[name] for name in self.names)


class TopPart(nn.Module):
    """What follows and still looks at every pixel: FPN, RPN head and crack map."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.names = list(model.backbone.in_features)
        self.fpn = copy.deepcopy(model.backbone)
        self.fpn.bottom_up = nn.Identity()
        self.rpn_head = model.proposal_generator.rpn_head
        self.rpn_features = list(model.proposal_generator.in_features)
        self.roi_features = list(model.roi_heads.box_in_features)
        self.box_dim = model.proposal_generator.anchor_generator.box_dim
        self.crack_map_head = model.crack_map_head if isinstance(model, CrackRCNN) else None

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map the features of `BottomPart`, and the photo where there is a crack map, onwards.

        Returns:
            the features of the RoI heads, all levels one after the other, one row a position,
            (positions, C); for each RPN level objectness logits (1, positions x anchors); for
            each RPN level box deltas (1, positions x anchors, 4); and, where the model has a
            crack map, crack logits (1, H, W).
        """
        features = self.fpn(dict(zip(self.names, inputs, strict=False)))
        table = torch.cat([_rows(features[x]) for x in self.roi_features])
        objectness, deltas = self.rpn_head([features[x] for x in self.rpn_features])
        outputs = [table]
        outputs += [x.permute(0, 2, 3, 1).reshape(1, -1) for x in objectness]
        outputs += [x.permute(0, 2, 3, 1).reshape(1, -1, self.box_dim) for x in deltas]
        if self.crack_map_head is not None:
            outputs.append(self.crack_map_head(features, inputs[-1]))
        return tuple(outputs)


def _rows(feature: torch.Tensor) -> torch.Tensor:
    """(1, C, H, W) as (H x W, C): how convolutions hold it anyway, where a transpose would copy."""
    return feature.permute(0, 2, 3, 1).reshape(-1, feature.shape[1])
