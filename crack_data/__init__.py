"""Crack instance segmentation on Detectron2: data, model, training, evaluation, inference."""

__version__ = "0.1.0"
