"""Evaluation: metrics of pixels and of instances, with intervals, of what a predictor draws."""

from .evaluator import CrackEvaluator, evaluate_dataset, evaluate_datasets
from .metrics import count_photo, summarize

__all__ = ["CrackEvaluator", "count_photo", "evaluate_dataset", "evaluate_datasets", "summarize"]
