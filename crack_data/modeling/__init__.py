"""Backbones, the crack-map head and the meta-architecture; importing it registers them all."""

from .crack_map_head import CrackMapHead
from .crack_rcnn import CrackRCNN
from .efficientnet_lite import EfficientNetLite0, build_efficientnet_lite0_fpn_backbone
from .mobilenetv2 import MobileNetV2, build_mobilenetv2_fpn_backbone

__all__ = [
    "CrackMapHead",
    "CrackRCNN",
    "EfficientNetLite0",
    "MobileNetV2",
    "build_efficientnet_lite0_fpn_backbone",
    "build_mobilenetv2_fpn_backbone",
]
