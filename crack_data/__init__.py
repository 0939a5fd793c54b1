"""Crack instance segmentation on Detectron2: data, model, training, evaluation, inference."""

import os
import warnings

__version__ = "0.1.0"

# Threads that wait must not spin on cores that others need: OpenMP reads it as torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Detectron2 and torchvision call what newer PyTorch deprecates; a user can do nothing about it.
for _message in (r"`torch\.jit\.script` is deprecated", r"torch\.meshgrid: in an upcoming release"):
    warnings.filterwarnings("ignore", message=_message)
