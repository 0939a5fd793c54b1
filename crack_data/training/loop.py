"""One iteration: optimizer, precision, accumulation, and what a batch says of its photos."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn

from ..errors import CrackError
from ..files import atomic_write
from .data import Batch, build_validation_loader

logger = logging.getLogger("detectron2.crack_data.training")

NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Of the validation crops and of the model's own sampling: the same at every evaluation.
_VALIDATION_SEED = 0


def uses_bf16(cfg: CfgNode) -> bool:
    """Whether a training computes in bf16 on the CPU: SOLVER.CPU_BF16, where it is native.

    Elsewhere PyTorch emulates bf16, several times slower than fp32.
    """
    able = torch.cpu.get_capabilities()
    native = able.get("amx_bf16") or able.get("avx512_bf16")
    return bool(cfg.SOLVER.CPU_BF16 and cfg.MODEL.DEVICE == "cpu" and native)


def check_solver(cfg: CfgNode) -> None:
    """Check that accumulation goes with the rest of SOLVER.

    Raises:
        CrackError: it does not.
    """
    solver = cfg.SOLVER
    if solver.AMP.ENABLED and cfg.MODEL.DEVICE != "cpu" and solver.ACCUMULATE > 1:
        raise CrackError("SOLVER.ACCUMULATE above 1 does not go with SOLVER.AMP.ENABLED")
    if solver.ACCUMULATE < 1 or solver.CHECKPOINT_PERIOD % solver.ACCUMULATE:
        raise CrackError(
            f"SOLVER.CHECKPOINT_PERIOD ({solver.CHECKPOINT_PERIOD}) must be a multiple of "
            f"SOLVER.ACCUMULATE ({solver.ACCUMULATE}), which is at least 1"
        )


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


class CrackStepper(SimpleTrainer):
    """Detectron2's `SimpleTrainer` with autocast, accumulation and a check before each update.

    A loss that is not finite raises FloatingPointError before it reaches the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        bf16: bool,
        accumulate: int,
    ) -> None:
        """Args: bf16: compute in bfloat16; accumulate: iterations to an optimizer step."""
        super().__init__(model, data_loader, optimizer)
        self.bf16 = bf16
        self.accumulate = accumulate

    def run_step(self) -> None:
        """Compute one batch's gradients; every ``accumulate`` iterations, take a step."""
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
    """Counts unreadable photos and remembers the last batch's photos.

    Attributes:
        photos: in the training set; whoever builds the loader knows.
        bad: the unreadable ones so far, file name to reason.
        last: image_id, file_name and dataset_name of the photos in the last batch.
    """

    def __init__(self, max_bad_share: float) -> None:
        """Args: max_bad_share: CRACK.MAX_BAD_PHOTOS."""
        self.photos = 0
        self.max_bad_share = max_bad_share
        self.bad: dict[str, str] = {}
        self.last: list[dict[str, str]] = []

    def __call__(self, batch: Batch) -> Batch:
        """Note what the batch says and return those of its samples that could be read.

        Raises:
            CrackError: more of the photos cannot be read than CRACK.MAX_BAD_PHOTOS allows.
        """
        for sample in batch:
            for name, reason in sample.get("skipped", ()):
                self._note(name, reason)
        readable = [sample for sample in batch if "image" in sample]
        if not readable:
            raise CrackError(self._sentence("no photo of a whole batch can be read"))
        self.last = [
            {key: str(sample[key]) for key in ("image_id", "file_name", "dataset_name")}
            for sample in readable
            if "dataset_name" in sample
        ]
        return readable

    def report(self, folder: str, iteration: int, losses: str) -> str:
        """Write the photos of a batch whose loss is not finite into ``folder``.

        Returns:
            what to tell the user.
        """
        path = os.path.join(folder, f"bad_batch_{comm.get_rank()}.json")
        content = {"iteration": iteration, "losses": losses, "photos": self.last}
        with atomic_write(path) as file:
            file.write(json.dumps(content, indent=1).encode())
        return (
            f"the loss became infinite or NaN at iteration {iteration}; {path} names the photos of "
            "that batch; look at them or lower SOLVER.BASE_LR, then go on with --resume"
        )

    def _note(self, name: str, reason: str) -> None:
        if name in self.bad:
            return
        self.bad[name] = reason
        logger.warning(f"skipped photo {name}: it {reason} ({len(self.bad)} skipped so far)")
        if len(self.bad) > self.max_bad_share * self.photos:
            share = f"{len(self.bad)} of {self.photos} photos cannot be read"
            raise CrackError(self._sentence(share))

    def _sentence(self, what: str) -> str:
        first = next(iter(self.bad), "none named")
        return (
            f"{what}, the first: {first}; mend or remove them, or allow more with "
            f"CRACK.MAX_BAD_PHOTOS (now {self.max_bad_share})"
        )


class StopTraining(BaseException):
    """Leaves the training loop in good order, with an error to report or without.

    No Exception: of those Detectron2's loop logs a traceback, which bad input does not deserve.
    """

    def __init__(self, error: CrackError | None = None) -> None:
        self.error = error


@contextmanager
def stopping(output_dir: str) -> Iterator[None]:
    """Turn errors that have a cause outside the program into `StopTraining`, with a sentence.

    These are bad input, a full disk, and data-loading processes that have died.
    """
    try:
        yield
    except CrackError as error:
        raise StopTraining(error) from error
    except OSError as error:
        raise StopTraining(unwritable(output_dir, error)) from error
    except RuntimeError as error:
        # PyTorch raises it wherever the program is when such a process dies.
        if not re.search(r"DataLoader worker \(pid", str(error)):
            raise
        message = (
            "a process that loads photos was ended from outside, probably for want of memory; give "
            "more (in Docker --memory and --shm-size), or set DATALOADER.NUM_WORKERS 0, and go on "
            "with --resume"
        )
        raise StopTraining(CrackError(message)) from error


def unwritable(output_dir: str, error: OSError) -> CrackError:
    """The sentence for a full or read-only disk."""
    return CrackError(
        f"OUTPUT_DIR {output_dir} cannot be written to ({error.strerror or error}); make room or "
        "name another folder; what was complete is still there, and --resume goes on from it"
    )


@torch.no_grad()
def validation_losses(cfg: CfgNode, model: nn.Module) -> dict[str, float]:
    """The model's losses on one training-like crop of each photo in DATASETS.TEST.

    Returns:
        each loss, and their sum as "total_loss": means over all batches of all processes.
    """
    was_training = model.training
    model.train()
    for module in model.modules():
        if isinstance(module, NORM_TYPES):
            module.eval()
    torch.manual_seed(_VALIDATION_SEED)
    found = []
    for batch in build_validation_loader(cfg, _VALIDATION_SEED):
        readable = [sample for sample in batch if "image" in sample]
        if readable:
            with torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16(cfg)):
                losses = model(readable)
            values = {name: float(loss) for name, loss in losses.items()}
            found.append({**values, "total_loss": sum(values.values())})
    model.train(was_training)
    everyone = [loss for part in comm.all_gather(found) for loss in part]
    if not everyone:
        return {}
    return {name: float(np.mean([loss[name] for loss in everyone])) for name in everyone[0]}
