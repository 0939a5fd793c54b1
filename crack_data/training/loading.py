"""Initial weights, which must fit the model they are loaded into."""

from __future__ import annotations

import os

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from torch import nn

from ..errors import CrackError
from ..modeling import load_backbone_weights

# Of the convolutions below the FPN, at least this share must be in the file. Heads may be missing
# or have another number of classes: that is how a detector of something else is taken over.
MIN_SHARE = 0.9


def bottom_up(model: nn.Module) -> nn.Module:
    """The network below the FPN, or the whole backbone where there is no FPN."""
    backbone = model.get_submodule("backbone")
    inner = getattr(backbone, "bottom_up", backbone)
    return inner if isinstance(inner, nn.Module) else backbone


def load_initial_weights(cfg: CfgNode, model: nn.Module) -> None:
    """Load MODEL.WEIGHTS into the network, or MODEL.BACKBONE.WEIGHTS below its FPN.

    Raises:
        CrackError: the file is missing, cannot be read or is of another architecture.
    """
    if cfg.MODEL.WEIGHTS:
        _load_network(model, cfg.MODEL.WEIGHTS)
    elif cfg.MODEL.BACKBONE.WEIGHTS:
        load_backbone_weights(bottom_up(model), cfg.MODEL.BACKBONE.WEIGHTS)


def _load_network(model: nn.Module, path: str) -> None:
    if "://" not in path and not os.path.isfile(path):
        raise CrackError(f"MODEL.WEIGHTS {path} does not exist; name a file or a URL")
    before = _convolutions(bottom_up(model))
    try:
        DetectionCheckpointer(model).load(path)
    except Exception as error:  # the network, pickle, torch: each raises its own types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CrackError(f"MODEL.WEIGHTS {path} cannot be loaded: {reason}") from error
    after = _convolutions(bottom_up(model))
    loaded = sum(not torch.equal(before[name], after[name]) for name in before)
    if loaded < MIN_SHARE * len(before):
        raise CrackError(
            f"MODEL.WEIGHTS {path} is of another architecture: it holds {loaded} of the "
            f"{len(before)} convolutions of the backbone; name a file that goes with the config"
        )


def _convolutions(network: nn.Module) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    return {name: weight.clone() for name, weight in state.items() if weight.dim() == 4}
