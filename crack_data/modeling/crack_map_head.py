"""The crack map: one crack probability per pixel of the photo, at the photo's own resolution.

A crack is 1 to 10 px wide; a map at stride 4, or a 28x28 mask over a long box, cannot draw it. Yet
convolutions at stride 1 are slow on a CPU, where moving a wide full-size tensor costs more than
the arithmetic. So the head works at stride 2 on rearranged pixels: the photo comes in with each
2x2 block of pixels as channels, and four logits per position go out and are put back in place
(sub-pixel convolution, Shi et al. 2016, arXiv:1609.05158). Nothing of the photo's detail is lost
and no layer is wider than four values a pixel at stride 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import nn

# Cracks cover a few percent of a photo; starting from that prior keeps the first steps calm.
_PRIOR_LOGIT = -3.0
# Target value of pixels that do not count; 0 is background, 1 is crack.
IGNORED = 255


class CrackMapHead(nn.Module):
    """FPN features and the photo itself in, crack logits at the photo's size out."""

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        in_feature: str,
        channels: int,
        detail_channels: int,
        norm: str,
    ) -> None:
        """See the MODEL.CRACK_MAP keys in `crack_data.config`.

        Raises:
            ValueError: ``in_feature`` has another stride than 4.
        """
        super().__init__()
        shape = input_shape[in_feature]
        if shape.stride != 4:
            raise ValueError(f"MODEL.CRACK_MAP.IN_FEATURE must have stride 4, not {shape.stride}")
        self.in_feature = in_feature
        self.context = _conv(shape.channels, channels, 3, norm)
        self.detail = _conv(12, detail_channels, 3, norm)
        self.fuse = nn.Sequential(
            _conv(channels + detail_channels, channels, 3, norm),
            _conv(channels, channels, 3, norm),
        )
        self.predictor = nn.Conv2d(channels, 4, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        assert self.predictor.bias is not None
        nn.init.constant_(self.predictor.bias, _PRIOR_LOGIT)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, object]:
        """Read MODEL.CRACK_MAP."""
        keys = cfg.MODEL.CRACK_MAP
        return {
            "input_shape": input_shape,
            "in_feature": keys.IN_FEATURE,
            "channels": keys.CHANNELS,
            "detail_channels": keys.DETAIL_CHANNELS,
            "norm": keys.NORM,
        }

    def forward(self, features: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """Crack logits.

        Args:
            features: FPN features; the one used has shape (N, C, H/4, W/4).
            images: normalised photos, shape (N, 3, H, W), H and W multiples of 4.

        Returns:
            logits, float32, shape (N, H, W).
        """
        detail = self.detail(F.pixel_unshuffle(images, 2))
        context = self.context(features[self.in_feature])
        context = F.interpolate(context, scale_factor=2.0, mode="bilinear", align_corners=False)
        fused = self.fuse(torch.cat([context.to(detail.dtype), detail], dim=1))
        # The last layer decides on thin margins: in fp32 also under autocast.
        with torch.autocast(fused.device.type, enabled=False):
            logits = self.predictor(fused.float())
        return F.pixel_shuffle(logits, 2)[:, 0]


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> Conv2d:
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
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
