"""Crack instance segmentation on Detectron2: data, model, training, evaluation, inference."""

import warnings

__version__ = "0.1.0"

# Detectron2 and torchvision call what newer PyTorch deprecates; a user can do nothing about it.
for _message in (r"`torch\.jit\.script` is deprecated", r"torch\.meshgrid: in an upcoming release"):
    warnings.filterwarnings("ignore", message=_message)
