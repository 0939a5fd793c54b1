"""The shipped config and weights, found from a checkout and from an installed wheel alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from ..config import load_config
from ..errors import CrackError

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(path: str) -> Path:
    """Where a file under configs/ or checkpoints/ lies, or would lie in a checkout."""
    carried = _PACKAGE / path  # in a wheel
    return carried if carried.exists() else _PACKAGE.parent / path


def load_predict_config(
    config_file: str | None = None, weights: str | None = None, overrides: Sequence[str] = ()
) -> CfgNode:
    """The config for prediction, not frozen, with a checkpoint named.

    ``config_file`` is YAML (None: the shipped model's), ``overrides`` ``KEY VALUE`` pairs,
    flattened. Without ``weights`` the checkpoint is the config's MODEL.WEIGHTS, looked for below
    the working folder and then beside the shipped configs.
    """
    name = config_file or str(shipped("configs/predict_mobilenet.yaml"))
    cfg = load_config(name, overrides)
    if weights is not None:
        cfg.MODEL.WEIGHTS = weights
    if not cfg.MODEL.WEIGHTS:
        raise CrackError(f"config file {name} names no MODEL.WEIGHTS; give --weights")
    if "://" not in cfg.MODEL.WEIGHTS and not Path(cfg.MODEL.WEIGHTS).exists():
        found = shipped(cfg.MODEL.WEIGHTS)
        if weights is not None or not found.exists():
            raise CrackError(f"checkpoint {cfg.MODEL.WEIGHTS} does not exist; give --weights")
        cfg.MODEL.WEIGHTS = str(found)
    return cfg
