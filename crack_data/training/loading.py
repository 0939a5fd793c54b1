"""Initial weights, which must fit the model they are loaded into."""

from __future__ import annotations

import os

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from torch import nn

from ..errors import CrackError
from ..modeling import load_backbone_weights


def load_initial_weights(cfg: CfgNode, model: nn.Module) -> None:
    """Load MODEL.WEIGHTS into the network, or MODEL.BACKBONE.WEIGHTS below its FPN.

    Raises:
        CrackError: the file is missing or of another architecture.
    """
    if cfg.MODEL.WEIGHTS:
        load_network(model, cfg.MODEL.WEIGHTS)
    elif cfg.MODEL.BACKBONE.WEIGHTS:
        backbone = model.backbone
        load_backbone_weights(getattr(backbone, "bottom_up", backbone), cfg.MODEL.BACKBONE.WEIGHTS)


def load_network(model: nn.Module, path: str) -> None:
    """Load weights of the whole network."""
    if "://" not in path and not os.path.isfile(path):
        raise CrackError(f"MODEL.WEIGHTS {path} does not exist")
    DetectionCheckpointer(model).load(path)
