"""Backbone, crack-map head and meta-architecture; importing it registers them with Detectron2."""

from .crack_map_head import CrackMapHead
from .crack_rcnn import CrackRCNN
from .mobilenetv2 import MobileNetV2

__all__ = ["CrackMapHead", "CrackRCNN", "MobileNetV2"]
