"""The same detections in less time: a trained model's parts, run by OpenVINO on the CPU."""

from .accelerate import accelerate, can_accelerate
from .detector import FastDetector
from .engine import choose_precision

__all__ = ["FastDetector", "accelerate", "can_accelerate", "choose_precision"]
