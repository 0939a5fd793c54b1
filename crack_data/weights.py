"""Load a checkpoint into a model: without executing pickles, and only where every key fits."""

from __future__ import annotations

import os
import pickle
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from .errors import CrackError

# The config sets these two; checkpoints may lack them, as Detectron2's own loading allows.
_FROM_CONFIG = ("pixel_mean", "pixel_std")
# Stored by old checkpoints only, and computed from the config.
_OBSOLETE = "anchor_generator.cell_anchors"


def load_weights(model: nn.Module, path: str) -> None:
    """Load a checkpoint with Detectron2's `DetectionCheckpointer`, having checked it first.

    Args:
        model: built from the config that the checkpoint was trained with.
        path: a .pth file or a URL that Detectron2 reads.

    Raises:
        CrackError: no such file, not a file of tensors only, or of another model.
    """
    local = _local_path(path)
    state = _read_state(local, path)
    problem = _mismatch(state, model.state_dict())
    if problem:
        raise CrackError(
            f"checkpoint {path} is of another model: {problem}; use the config file that it was "
            "trained with"
        )
    DetectionCheckpointer(model).load(local)


def _local_path(path: str) -> str:
    if path.endswith((".pkl", ".pyth")):
        raise CrackError(
            f"checkpoint {path} is a pickle, which could run any code; give a .pth file, such as "
            "training writes"
        )
    try:
        local = PathManager.get_local_path(path)
    except Exception as error:  # a handler per kind of URL, each with its own errors
        raise CrackError(f"checkpoint {path} cannot be fetched: {error}") from error
    if not os.path.isfile(local):
        raise CrackError(f"checkpoint {path} does not exist; train one or name another")
    return local


def _read_state(local: str, path: str) -> dict[str, torch.Tensor]:
    try:
        content: Any = torch.load(local, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CrackError(
            f"checkpoint {path} holds more than tensors, or is no checkpoint, and is not loaded"
        ) from error
    except Exception as error:  # a cut-off archive raises many types
        raise CrackError(f"checkpoint {path} is damaged: {_first_line(error)}") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(x, torch.Tensor) for x in state.values()):
        raise CrackError(f"checkpoint {path} holds no model weights")
    return state


def _mismatch(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> str:
    """The difference as part of a sentence; empty where there is none."""
    missing = [x for x in wanted if x not in found and x not in _FROM_CONFIG]
    unexpected = [x for x in found if x not in wanted and _OBSOLETE not in x]
    if missing:
        return f"it lacks {len(missing)} of the model's {len(wanted)} weights ({missing[0]}, …)"
    if unexpected:
        return f"it has {len(unexpected)} weights that the model lacks ({unexpected[0]}, …)"
    for name, weight in wanted.items():
        if name in found and found[name].shape != weight.shape:
            shapes = f"{tuple(found[name].shape)} in it and {tuple(weight.shape)} in the model"
            return f"{name} is {shapes}"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
