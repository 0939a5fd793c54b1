"""Time spent in a model's parts, from hooks on its modules and wrappers around its methods."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from torch import nn

# Modules and methods that do not call each other; a stock model has no `dense`.
STAGES = {
    "dense": "backbone, FPN, RPN head, crack map",
    "backbone": "backbone + FPN",
    "crack_map_head": "crack map",
    "propose": "RPN",
    "proposal_generator": "RPN",
    "roi_heads.box_pooler": "box head",
    "roi_heads.box_head": "box head",
    "roi_heads.box_predictor": "box head",
    "roi_heads.mask_pooler": "mask head",
    "roi_heads.mask_head": "mask head",
}


@contextmanager
def stage_times(model: nn.Module) -> Iterator[Mapping[str, float]]:
    """Collect the milliseconds of each of the `STAGES` that ``model`` has, while it lasts.

    Yields:
        a mapping that grows with every call of the model.
    """
    times: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for name, stage in STAGES.items():
            if name in ("backbone", "crack_map_head") and hasattr(model, "dense"):
                continue  # parts of it
            part: Any = model
            for key in name.split("."):
                part = getattr(part, key, None)
            if isinstance(part, nn.Module):
                stack.enter_context(_hooked(part, stage, times))
            elif callable(part):
                stack.enter_context(_wrapped(model, name, stage, times))
        yield times


@contextmanager
def _hooked(module: nn.Module, stage: str, times: dict[str, float]) -> Iterator[None]:
    started = 0.0

    def before(*_: object) -> None:
        nonlocal started
        started = time.perf_counter()

    def after(*_: object) -> None:
        times[stage] += 1000 * (time.perf_counter() - started)

    handles = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _wrapped(model: nn.Module, name: str, stage: str, times: dict[str, float]) -> Iterator[None]:
    method: Callable[..., Any] = getattr(model, name)

    @wraps(method)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            times[stage] += 1000 * (time.perf_counter() - started)

    of_instance = vars(model).get(name)
    setattr(model, name, timed)  # on this model alone, before its class's
    try:
        yield
    finally:
        delattr(model, name)
        if of_instance is not None:
            setattr(model, name, of_instance)
