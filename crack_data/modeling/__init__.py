"""Backbone and meta-architecture; importing it registers them with Detectron2."""

from .crack_rcnn import CrackRCNN
from .mobilenetv2 import MobileNetV2

__all__ = ["CrackRCNN", "MobileNetV2"]
