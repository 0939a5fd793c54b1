"""Evaluation: pixel metrics with intervals beside COCO's average precision."""

from .crack_evaluator import CrackEvaluator
from .pixel_metrics import PhotoCounts, count_photo
from .summary import summarize

__all__ = ["CrackEvaluator", "PhotoCounts", "count_photo", "summarize"]
