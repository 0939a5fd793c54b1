"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as a Detectron2 backbone with an FPN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN
from torch import nn
from torchvision.models import mobilenet_v2

from .staged import StagedBackbone, build_fpn, norm_layer, stage_settings

# Where each stage begins and ends in torchvision's `features`; a stage ends before the layer
# that halves the resolution again. Layer 18 widens to 1280 channels for the classifier: left out.
_STAGE_BOUNDS = ((0, 2), (2, 4), (4, 7), (7, 14), (14, 18))


class MobileNetV2(StagedBackbone):
    """torchvision's MobileNetV2 without its classifier, keys of its weights unchanged."""

    @configurable
    def __init__(
        self,
        *,
        width_mult: float = 1.0,
        norm: str = "BN",
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        freeze_at: int = 0,
    ) -> None:
        """See the MODEL.MOBILENETV2 keys in `crack_data.config`."""
        super().__init__()
        network = mobilenet_v2(width_mult=width_mult, norm_layer=norm_layer(norm))
        self.features = nn.ModuleList(list(network.features)[:-1])
        channels: list[Any] = [self.features[end - 1].out_channels for _, end in _STAGE_BOUNDS]
        self.set_stages(channels, out_features, freeze_at)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, object]:
        """Read MODEL.MOBILENETV2."""
        keys = cfg.MODEL.MOBILENETV2
        return {"width_mult": keys.WIDTH_MULT, **stage_settings(keys, cfg.MODEL.BACKBONE)}

    def stage(self, index: int) -> nn.ModuleList:
        """The layers of stage ``index``, in order."""
        start, end = _STAGE_BOUNDS[index]
        return self.features[start:end]


@BACKBONE_REGISTRY.register()
def build_mobilenetv2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """MobileNetV2 with an FPN: features p2 … p6 at strides 4 … 64."""
    return build_fpn(cfg, MobileNetV2(cfg, input_shape))
