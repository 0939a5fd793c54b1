"""The crack map: one crack probability per pixel of the photo, at the photo's own resolution.

A crack is 1 to 80 px wide. A map at stride 4, or a 28x28 mask over a long box, cannot draw a thin
one, and a map that sees little of its surroundings leaves wide ones hollow. So the head sums all
levels of the pyramid for context, as the semantic branch of a panoptic FPN does (Kirillov et al.
2019, arXiv:1901.02446), and refines that sum with ever finer features, as a U-Net does (Ronneberger
et al. 2015, arXiv:1505.04597). Convolutions at stride 1 are slow on a CPU, where moving a wide
full-size tensor costs more than the arithmetic: the last layer works at stride 2, gives four
logits a position, and these are put in place as 2x2 pixels (sub-pixel convolution, Shi et al. 2016,
arXiv:1609.05158).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import nn

# Cracks cover a few percent of a photo; starting from that prior keeps the first steps calm.
_PRIOR_LOGIT = -3.0
# The name in DETAIL_FEATURES for the photo itself: each 2x2 block of its pixels as 12 channels, and
# what a convolution makes of them.
_PHOTO = "image"
_PHOTO_SHAPE = ShapeSpec(channels=24, stride=2)
# Target value of pixels that do not count; 0 is background, 1 is crack.
IGNORED = 255


class CrackMapHead(nn.Module):
    """Backbone features and the photo in, crack logits at the photo's size out."""

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        in_features: Sequence[str],
        detail_features: Sequence[str],
        channels: Sequence[int],
        norm: str,
    ) -> None:
        """See the MODEL.CRACK_MAP keys in `crack_data.config`.

        Raises:
            ValueError: a feature is unknown, their strides do not fall to 2, or ``channels`` has
                not one number for the context and one for each detail.
        """
        super().__init__()
        shapes = {**input_shape, _PHOTO: _PHOTO_SHAPE}
        unknown = [name for name in (*in_features, *detail_features) if name not in shapes]
        if unknown:
            raise ValueError(f"MODEL.CRACK_MAP names the feature {unknown[0]}, not among {shapes}")
        strides = [shapes[name].stride for name in (in_features[0], *detail_features)]
        if sorted(strides, reverse=True) != strides or strides[-1] != 2:
            raise ValueError(f"MODEL.CRACK_MAP's features must fall to stride 2, not {strides}")
        if len(channels) != 1 + len(detail_features):
            raise ValueError(f"MODEL.CRACK_MAP.CHANNELS needs {1 + len(detail_features)} numbers")
        self.in_features = list(in_features)
        self.detail_features = list(detail_features)
        # How much coarser each level is than the finest, and each step of the refinement.
        self.scales = [shapes[name].stride / strides[0] for name in in_features]
        self.steps = [a / b for a, b in itertools.pairwise(strides)]
        self.context = nn.ModuleList(
            _conv(shapes[name].channels, channels[0], norm) for name in in_features
        )
        if _PHOTO in detail_features:
            self.photo = _conv(12, _PHOTO_SHAPE.channels, norm)
        self.refine = nn.ModuleList(
            _conv(channels[i] + shapes[name].channels, channels[i + 1], norm)
            for i, name in enumerate(detail_features)
        )
        self.last = _conv(channels[-1], channels[-1], norm)
        self.predictor = nn.Conv2d(channels[-1], 4, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        assert self.predictor.bias is not None
        nn.init.constant_(self.predictor.bias, _PRIOR_LOGIT)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, object]:
        """Read MODEL.CRACK_MAP."""
        keys = cfg.MODEL.CRACK_MAP
        return {
            "input_shape": input_shape,
            "in_features": keys.IN_FEATURES,
            "detail_features": keys.DETAIL_FEATURES,
            "channels": keys.CHANNELS,
            "norm": keys.NORM,
        }

    def forward(self, features: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """Crack logits.

        Args:
            features: of the backbone, each (N, C, H / stride, W / stride).
            images: normalised photos, shape (N, 3, H, W), H and W multiples of the coarsest stride.

        Returns:
            logits, float32, shape (N, H, W).
        """
        levels = zip(self.context, self.in_features, self.scales, strict=True)
        contexts = [_enlarge(conv(features[name]), scale) for conv, name, scale in levels]
        x = reduce(torch.add, contexts)
        for conv, name, step in zip(self.refine, self.detail_features, self.steps, strict=True):
            fine = self.photo(F.pixel_unshuffle(images, 2)) if name == _PHOTO else features[name]
            x = conv(torch.cat([_enlarge(x, step).to(fine.dtype), fine], dim=1))
        x = self.last(x)
        # The last layer decides on thin margins: in fp32 also under autocast.
        with torch.autocast(x.device.type, enabled=False):
            logits = self.predictor(x.float())
        return F.pixel_shuffle(logits, 2)[:, 0]


def _enlarge(x: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _conv(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        padding=1,
        bias=norm == "",
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    weight_init.c2_msra_fill(layer)
    return layer


def crack_map_loss(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, dice_weight: float
) -> torch.Tensor:
    """Binary cross-entropy plus Dice loss (Milletari et al. 2016, arXiv:1606.04797).

    Dice is taken over the whole batch, as the pooled F1 is over a set: a photo without cracks
    then needs no special case.

    Args:
        logits, target, weight: float, shape (N, H, W); target 0 or 1; weight 0 leaves a pixel out.
        dice_weight: factor of the Dice term.

    Returns:
        a scalar.
    """
    bce = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    bce = bce / weight.sum().clamp(min=1)
    probability = logits.sigmoid() * weight
    overlap = 2 * (probability * target).sum() + 1
    dice = 1 - overlap / (probability.sum() + (target * weight).sum() + 1)
    return bce + dice_weight * dice


def stack_targets(targets: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Targets of several photos, each (h, w) uint8, in one uint8 (N, H, W); the rest `IGNORED`."""
    stacked = targets[0].new_full((len(targets), *size), IGNORED)
    for row, target in zip(stacked, targets, strict=True):
        row[: target.shape[0], : target.shape[1]] = target
    return stacked
