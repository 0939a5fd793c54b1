"""ImageNet weights for a bottom-up network: every key must match, or training does not start."""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections.abc import Mapping

import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from ..errors import CrackError

# "package:NAME/FILE" is a file that an installed Python package carries.
_PACKAGE_PREFIX = "package:"


def load_backbone_weights(bottom_up: nn.Module, path: str) -> int:
    """Load ``path`` into ``bottom_up`` and return the number of tensors loaded.

    Args:
        bottom_up: the network below the FPN; its keys are those of the file.
        path: a local file, "package:NAME/FILE" for a file inside an installed Python package, or
            a URL that Detectron2's PathManager downloads and caches.

    Raises:
        CrackError: the file cannot be had or read, or a tensor of the network is missing from it
            or has another shape. Keys that only the file has (the classifier) are passed over.
    """
    stored = _read_state(path)
    wanted = bottom_up.state_dict()
    # BatchNorm's step counter is bookkeeping, and FrozenBN has none.
    names = [name for name in wanted if not name.endswith("num_batches_tracked")]
    problems = [_problem(name, wanted[name], stored) for name in names]
    problems = [problem for problem in problems if problem]
    if problems:
        raise CrackError(
            f"backbone weights {path} do not fit MODEL.BACKBONE.NAME: {len(problems)} of "
            f"{len(names)} tensors are missing or differ in shape, first {problems[0]}"
        )
    bottom_up.load_state_dict({name: stored[name] for name in names}, strict=False)
    return len(names)


def _read_state(path: str) -> Mapping[str, torch.Tensor]:
    local = _local_file(path)
    try:
        state = torch.load(local, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CrackError(
            f"backbone weights {path} are not a PyTorch file of plain tensors; "
            "give another file with MODEL.BACKBONE.WEIGHTS"
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise CrackError(f"backbone weights {path} hold no dictionary of tensors")
    return state


def _local_file(path: str) -> str:
    if path.startswith(_PACKAGE_PREFIX):
        return _packaged_file(path)
    try:
        local = PathManager.get_local_path(path)
    except Exception as error:  # whatever the network or the file system says
        raise CrackError(
            f"backbone weights {path} cannot be fetched ({type(error).__name__}); download them "
            "elsewhere and give the file with MODEL.BACKBONE.WEIGHTS"
        ) from error
    if not os.path.isfile(local):
        raise CrackError(
            f"backbone weights {path} do not exist; set MODEL.BACKBONE.WEIGHTS to a file or URL"
        )
    return local


def _packaged_file(path: str) -> str:
    package, _, inner = path.removeprefix(_PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CrackError(f"backbone weights {path} need the Python package {package}; install it")
    return os.path.join(spec.submodule_search_locations[0], inner)


def _problem(name: str, wanted: torch.Tensor, stored: Mapping[str, torch.Tensor]) -> str:
    if name not in stored:
        return f"{name} (missing)"
    if stored[name].shape != wanted.shape:
        return f"{name} ({tuple(stored[name].shape)} in the file, {tuple(wanted.shape)} here)"
    return ""
