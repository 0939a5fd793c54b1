"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` whose weights and buffers follow it, weighted by ``decay`` a step.

    The first steps use a smaller decay, (1 + n) / (10 + n), so that the average does not remember
    the initial weights in a short training.
    """
    return AveragedModel(model, multi_avg_fn=_average(decay), use_buffers=True)


def _average(decay: float) -> Callable[[Tensors, Tensors, torch.Tensor | int], None]:
    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, steps: torch.Tensor | int) -> None:
        count = int(steps)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, weight)
            else:
                old.copy_(new)

    return update
