"""Which number format a training computes in, by device."""

from __future__ import annotations

from detectron2.config import CfgNode


def on_cpu(cfg: CfgNode) -> bool:
    """Whether MODEL.DEVICE is the CPU."""
    return cfg.MODEL.DEVICE == "cpu"


def uses_amp(cfg: CfgNode) -> bool:
    """Whether Detectron2's mixed precision applies: SOLVER.AMP.ENABLED, on a GPU."""
    return bool(cfg.SOLVER.AMP.ENABLED) and not on_cpu(cfg)


def uses_bf16(cfg: CfgNode) -> bool:
    """Whether bf16 autocast applies: SOLVER.CPU_BF16, on the CPU."""
    return bool(cfg.SOLVER.CPU_BF16) and on_cpu(cfg)
