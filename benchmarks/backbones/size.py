"""Parameters and arithmetic of a model, by part."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Parts of Detectron2's R-CNNs, with the names that a reader expects.
PARTS = {
    "backbone.bottom_up": "backbone",
    "backbone": "FPN",
    "proposal_generator.rpn_head": "RPN",
    "roi_heads.box_head": "box head",
    "roi_heads.box_predictor": "box head",
    "roi_heads.mask_head": "mask head",
    "crack_map_head": "crack map",
}


def part_of(name: str) -> str:
    """The part that a parameter or module belongs to: the longest prefix in `PARTS`."""
    fitting = [x for x in PARTS if name == x or name.startswith(f"{x}.")]
    return PARTS[max(fitting, key=len)] if fitting else "other"


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Number of parameters of each part, and "all"."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[part_of(name)] += parameter.numel()
    # Frozen BatchNorm keeps its weights as buffers; they are parameters all the same.
    for name, buffer in model.named_buffers():
        if name.endswith((".norm.weight", ".norm.bias")):
            counts[part_of(name)] += buffer.numel()
    return {**counts, "all": sum(counts.values())}


def count_gflops(model: nn.Module, given: dict[str, Any]) -> dict[str, float]:
    """Multiply-adds of one forward pass, in 10^9, of each part, and "all" (PyTorch's count).

    Args:
        model: a Detectron2 model in evaluation mode, not compiled.
        given: one photo as the model takes it; the count depends on its size and detections.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model([given])
    # Each module's count holds those of its parts; a multiply-add is two operations.
    modules = {
        name.partition(".")[2]: sum(operations.values()) / 2e9
        for name, operations in counter.get_flop_counts().items()
        if name != "Global"
    }
    counts: Counter[str] = Counter()
    for prefix, part in PARTS.items():
        inner = sum(modules.get(x, 0) for x in PARTS if x.startswith(f"{prefix}."))
        counts[part] += modules.get(prefix, 0) - inner
    total = counter.get_total_flops() / 2e9
    counts["other"] = total - sum(counts.values())
    return {part: value for part, value in counts.items() if value > 0} | {"all": total}
