"""BatchNorm's running statistics: kept as they were pretrained, or computed afresh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from detectron2.engine import HookBase
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class FixedNormStatistics(HookBase):
    """Keeps the running statistics of a network's BatchNorm layers as they are."""

    def __init__(self, *networks: nn.Module) -> None:
        self.layers = [
            module
            for network in networks
            for module in network.modules()
            if isinstance(module, NORM_TYPES)
        ]

    def before_step(self) -> None:
        """Undo what ``model.train()`` does to them after an evaluation."""
        for layer in self.layers:
            layer.eval()


class ReestimateNorm(HookBase):
    """Before each evaluation, averages the statistics of the evaluated weights over batches.

    Statistics that `FixedNormStatistics` keeps are left alone. Detectron2's own hook goes on
    where it stopped in the data; this one takes the same batches each time, so that a resumed
    run does what an uninterrupted one does.
    """

    def __init__(
        self,
        period: int,
        batches: int,
        model: Callable[[], nn.Module],
        loader: Callable[[], Iterable[Any]],
    ) -> None:
        """Args: see TEST.EVAL_PERIOD and TEST.PRECISE_BN.NUM_ITER; the others make theirs."""
        self.period = period
        self.batches = batches
        self.model = model
        self.loader = loader

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        last = done == self.trainer.max_iter
        if last or (self.period > 0 and done % self.period == 0):
            model = self.model()
            if get_bn_modules(model):
                update_bn_stats(model, self.loader(), self.batches)
