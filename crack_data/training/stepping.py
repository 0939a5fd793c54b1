"""One training iteration in fp32, or in bf16 on the CPU, with gradient accumulation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from detectron2.engine import SimpleTrainer

Batch = list[dict[str, Any]]


class CrackStepper(SimpleTrainer):
    """Detectron2's `SimpleTrainer` with autocast, accumulation and a check before each update.

    A loss that is not finite raises FloatingPointError before it reaches the weights.
    """

    def __init__(
        self,
        model: torch.nn.Module,
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
        self.batches: Iterator[Batch] | None = None

    def run_step(self) -> None:
        """Compute one batch's gradients; every ``accumulate`` iterations, take a step."""
        start = time.perf_counter()
        if self.batches is None:
            self.batches = iter(self.data_loader)
        batch = next(self.batches)
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


class WatchedLoader:
    """Hands every batch to ``watch`` before the training sees it."""

    def __init__(self, loader: Any, watch: Callable[[Batch], Batch]) -> None:
        self.loader = loader
        self.watch = watch

    def __iter__(self) -> Iterator[Batch]:
        return map(self.watch, self.loader)
