"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as a Detectron2 backbone with an FPN."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn
from torchvision.models import mobilenet_v2

# Where each stage begins and ends in torchvision's `features`; a stage ends before the layer
# that halves the resolution again. Layer 18 widens to 1280 channels for the classifier: left out.
_STAGES = {"res1": (0, 2), "res2": (2, 4), "res3": (4, 7), "res4": (7, 14), "res5": (14, 18)}


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 without its classifier, keys of its weights unchanged."""

    def __init__(
        self, width_mult: float, norm: str, out_features: Sequence[str], freeze_at: int
    ) -> None:
        """See MODEL.MOBILENETV2 in `crack_data.config`; a ValueError for unknown stages."""
        super().__init__()
        if not out_features or not set(_STAGES).issuperset(out_features):
            raise ValueError(f"OUT_FEATURES are of {list(_STAGES)}, not {list(out_features)}")
        if not 0 <= freeze_at <= len(_STAGES):
            raise ValueError(f"FREEZE_AT counts stages, 0 to {len(_STAGES)}, not {freeze_at}")
        network = mobilenet_v2(width_mult=width_mult, norm_layer=partial(get_norm, norm))
        layers: list[Any] = list(network.features)[:-1]
        for block in layers[1:]:
            if block.stride == 2:
                block.conv[1][0] = _HalvingConv(block.conv[1][0].weight)
        self.features = nn.ModuleList(layers)
        ends: dict[str, Any] = {name: self.features[end - 1] for name, (_, end) in _STAGES.items()}
        self._out_features = list(out_features)
        self._out_feature_channels = {name: end.out_channels for name, end in ends.items()}
        self._out_feature_strides = {name: 2 ** (i + 1) for i, name in enumerate(_STAGES)}
        for start, end in list(_STAGES.values())[:freeze_at]:
            for layer in self.features[start:end]:
                layer.requires_grad_(False)
                FrozenBatchNorm2d.convert_frozen_batchnorm(layer)

    def forward(self, x: Any) -> dict[str, torch.Tensor]:
        """Map images, shape (N, 3, H, W), to {stage name: (N, C, H / stride, W / stride)}.

        What it returned once it returns again, so that an FPN around it can be given that.
        """
        if isinstance(x, dict):
            return x
        outputs: dict[str, torch.Tensor] = {}
        for name, (start, end) in _STAGES.items():
            for layer in self.features[start:end]:
                x = layer(x)
            if name in self._out_features:
                outputs[name] = x
            if len(outputs) == len(self._out_features):
                break
        return outputs


class _HalvingConv(nn.Conv2d):
    """A depthwise convolution of stride 2 that stays in fp32 under a CPU's autocast."""

    def __init__(self, weight: nn.Parameter) -> None:
        channels = len(weight)
        super().__init__(channels, channels, 3, 2, 1, groups=channels, bias=False, device="meta")
        self.weight = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features, (N, C, H, W), to (N, C, H / 2, W / 2) of the same type."""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        # Its gradient by oneDNN takes two to fifteen times as long in bf16.
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class DetailFPN(FPN):
    """Detectron2's FPN, and for the crack map the finer stages below, which it does not read."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images, shape (N, 3, H, W), to {"res1": …, "p3": …, …}."""
        stages = self.bottom_up(x)
        return {**self._unread(stages), **super().forward(stages)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output."""
        return {**self._unread(self.bottom_up.output_shape()), **super().output_shape()}

    def _unread(self, stages: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in stages.items() if name not in self.in_features}


@BACKBONE_REGISTRY.register()
def build_mobilenetv2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """MobileNetV2 with an FPN: features p2 … p6 at strides 4 … 64."""
    keys, fpn, freeze_at = cfg.MODEL.MOBILENETV2, cfg.MODEL.FPN, cfg.MODEL.BACKBONE.FREEZE_AT
    network = MobileNetV2(keys.WIDTH_MULT, keys.NORM, keys.OUT_FEATURES, freeze_at)
    rest = {"norm": fpn.NORM, "top_block": LastLevelMaxPool(), "fuse_type": fpn.FUSE_TYPE}
    return DetailFPN(network, fpn.IN_FEATURES, fpn.OUT_CHANNELS, **rest)
