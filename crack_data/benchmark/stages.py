"""Time spent in a model's parts, from hooks on its modules."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

# Module names, of Detectron2's own path and of the fast one.
STAGES = {
    "backbone": "backbone + FPN",
    "proposal_generator": "RPN",
    "roi_heads": "box and mask heads",
    "crack_map_head": "crack map",
    "bottom": "backbone",
    "top": "FPN, RPN head, crack map",
}


@contextmanager
def stage_times(model: nn.Module) -> Iterator[Mapping[str, float]]:
    """Collect the milliseconds of each of the `STAGES` that ``model`` has, while it lasts.

    Yields:
        a mapping that grows with every call of the model.
    """
    times: dict[str, float] = defaultdict(float)
    started: dict[str, float] = {}
    handles = []
    for name, stage in STAGES.items():
        module = getattr(model, name, None)
        if isinstance(module, nn.Module):
            handles += _watch(module, stage, started, times)
    try:
        yield times
    finally:
        for handle in handles:
            handle.remove()


def _watch(
    module: nn.Module, stage: str, started: dict[str, float], times: dict[str, float]
) -> list[Any]:
    def before(*_: object) -> None:
        started[stage] = time.perf_counter()

    def after(*_: object) -> None:
        times[stage] += 1000 * (time.perf_counter() - started[stage])

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
