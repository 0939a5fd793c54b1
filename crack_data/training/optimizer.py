"""The optimizer that SOLVER.OPTIMIZER names."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from ..errors import CrackError


def build_crack_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Detectron2's parameter groups and gradient clipping around SGD or AdamW.

    Parameters of the bottom-up network learn at SOLVER.BACKBONE_LR_FACTOR x SOLVER.BASE_LR.

    Raises:
        CrackError: SOLVER.OPTIMIZER is neither "sgd" nor "adamw".
    """
    factor = cfg.SOLVER.BACKBONE_LR_FACTOR
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        lr_factor_func=lambda name: factor if name.startswith("backbone.bottom_up.") else 1.0,
    )
    shared = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    if cfg.SOLVER.OPTIMIZER == "sgd":
        kind = maybe_add_gradient_clipping(cfg, torch.optim.SGD)
        return kind(
            parameters, momentum=cfg.SOLVER.MOMENTUM, nesterov=cfg.SOLVER.NESTEROV, **shared
        )
    if cfg.SOLVER.OPTIMIZER == "adamw":
        # A fused optimizer takes AMP's scaled gradients, which clipping must not see.
        kind = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
        return kind(parameters, fused=not cfg.SOLVER.AMP.ENABLED, **shared)
    raise CrackError(f"SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER!r}; use sgd or adamw")
