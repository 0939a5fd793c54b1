"""One iteration: optimizer, precision, accumulation, and what a batch says of its photos."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer, create_ddp_model
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from ..errors import CrackError
from ..files import atomic_write
from ..modeling.compiled import has_native_bf16
from .data import Batch

logger = logging.getLogger("detectron2.crack_data.training")


def build_stepper(cfg: CfgNode, model: nn.Module) -> SimpleTrainer:
    """What computes an iteration, with model (shared among all processes) and optimizer."""
    solver, on_cpu = cfg.SOLVER, cfg.MODEL.DEVICE == "cpu"
    if solver.CHECKPOINT_PERIOD % solver.ACCUMULATE:
        raise CrackError(
            f"SOLVER.CHECKPOINT_PERIOD ({solver.CHECKPOINT_PERIOD}) must be a multiple of "
            f"SOLVER.ACCUMULATE ({solver.ACCUMULATE})"
        )
    optimizer = build_crack_optimizer(cfg, model)
    placing = {"device_ids": None} if on_cpu else {}
    model = create_ddp_model(model, **placing)
    if on_cpu or not solver.AMP.ENABLED:
        bf16 = solver.CPU_BF16 and on_cpu and has_native_bf16()
        logger.info(f"Training computes in {'bf16' if bf16 else 'fp32'}")
        return CrackStepper(model, optimizer, bf16, solver.ACCUMULATE)
    if solver.ACCUMULATE > 1:
        raise CrackError("SOLVER.ACCUMULATE above 1 does not go with SOLVER.AMP.ENABLED")
    return AMPTrainer(model, (), optimizer)


def build_crack_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Detectron2's parameter groups and gradient clipping around SGD or AdamW.

    Parameters of the bottom-up network learn at SOLVER.BACKBONE_LR_FACTOR x SOLVER.BASE_LR.
    """
    solver = cfg.SOLVER
    factor = solver.BACKBONE_LR_FACTOR
    parameters = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=lambda name: factor if name.startswith("backbone.bottom_up.") else 1.0,
    )
    kind: Any = torch.optim.SGD
    options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    if solver.OPTIMIZER == "adamw":
        # A fused optimizer takes AMP's scaled gradients, which clipping must not see.
        kind, options = torch.optim.AdamW, {"fused": not solver.AMP.ENABLED}
    clipping = maybe_add_gradient_clipping(cfg, kind)
    return clipping(parameters, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, **options)


class CrackStepper(SimpleTrainer):
    """Detectron2's `SimpleTrainer` with autocast, accumulation and a check before each update.

    It takes an optimizer step every ``accumulate`` iterations. A loss that is not finite raises
    FloatingPointError before it reaches the weights.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, bf16: bool, accumulate: int
    ) -> None:
        super().__init__(model, (), optimizer)
        self.bf16 = bf16
        self.accumulate = accumulate

    def run_step(self) -> None:
        """Compute one batch's gradients, and take a step where it is due."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.iter % self.accumulate == 0:
            self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            losses = self.model(batch)
        SimpleTrainer.write_metrics(losses, data_time, self.iter)
        total = sum(losses.values())
        if not torch.isfinite(total):
            raise FloatingPointError(f"a loss is not finite: {losses}")
        (total / self.accumulate).backward()
        if (self.iter + 1) % self.accumulate == 0:
            self.optimizer.step()


class BatchMonitor:
    """Counts unreadable photos and remembers the last batch's photos."""

    def __init__(self, max_bad_share: float) -> None:
        self.photos = 0  # in the training set
        self.max_bad_share = max_bad_share
        self.bad: dict[str, str] = {}  # the unreadable ones so far, file name to reason
        # image_id, file_name and dataset_name of the photos in the last batch.
        self.last: list[dict[str, str]] = []

    def __call__(self, batch: Batch) -> Batch:
        """Note what the batch says and return those of its samples that could be read.

        A `CrackError` where more photos cannot be read than CRACK.MAX_BAD_PHOTOS allows.
        """
        for name, reason in (skipped for sample in batch for skipped in sample["skipped"]):
            if name not in self.bad:
                self.bad[name] = reason
                logger.warning(f"skipped photo {name}: {reason} ({len(self.bad)} so far)")
        readable = [sample for sample in batch if "image" in sample]
        if not readable or len(self.bad) > self.max_bad_share * self.photos:
            raise CrackError(
                f"{len(self.bad)} of {self.photos} photos cannot be read, the first: "
                f"{next(iter(self.bad))}; mend or remove them, or allow more with "
                f"CRACK.MAX_BAD_PHOTOS (now {self.max_bad_share})"
            )
        keys = ("image_id", "file_name", "dataset_name")
        self.last = [{key: str(sample[key]) for key in keys} for sample in readable]
        return readable

    def report(self, path: Path, iteration: int, losses: str) -> CrackError:
        """Write the photos of a batch whose loss is not finite; return what to raise."""
        content = {"iteration": iteration, "losses": losses, "photos": self.last}
        with atomic_write(path) as file:
            file.write(json.dumps(content, indent=1).encode())
        return CrackError(
            f"the loss became infinite or NaN at iteration {iteration}; {path} names the photos of "
            "that batch; look at them or lower SOLVER.BASE_LR, then go on with --resume"
        )
