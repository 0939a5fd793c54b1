#!/usr/bin/env python
"""Time MobileNetV2's depthwise convolutions of stride 2, forward and backward, in three ways.

Prints a Markdown table: for each of the four at a batch of 6 crops of 320 px the best of several
rounds, ms. "bf16" is what autocast does, "fp32" what the backbone does instead, both casts
included, and the last convolves at stride 1 in bf16 and keeps every second pixel.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.evaluation.tables import markdown_lines
from crack_data.modeling import MobileNetV2

_SIDE = 320  # px of a crop


def _every_second(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    whole = F.conv2d(x, layer.weight, None, 1, 1, 1, layer.groups)
    return whole[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


# By column of the table, all under autocast; a layer called as it is stays in fp32.
_WAYS: dict[str, Callable[[nn.Conv2d, torch.Tensor], torch.Tensor]] = {
    "bf16": nn.Conv2d.forward,
    "fp32": nn.Conv2d.__call__,
    "stride 1, every second pixel": _every_second,
}


def best_time(
    convolve: Callable[[nn.Conv2d, torch.Tensor], torch.Tensor],
    layer: nn.Conv2d,
    stride: int,
    rounds: int,
) -> float:
    """Forward and backward of a layer on 6 bf16 maps of a stride, channels-last: ms."""
    x = torch.randn(6, layer.in_channels, _SIDE // stride, _SIDE // stride).bfloat16()
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            output = convolve(layer, x)
        torch.autograd.grad(output, (x, layer.weight), torch.ones_like(output))
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, metavar="N")
    rounds = parser.parse_args().rounds
    network = MobileNetV2(1.0, "BN", ["res5"], 0)
    layers = [block.conv[1][0] for block in network.features[1:] if block.stride == 2]
    body = []
    for layer, stride in zip(layers, (2, 4, 8, 16), strict=True):
        times = [f"{best_time(way, layer, stride, rounds):.1f}" for way in _WAYS.values()]
        body.append([f"{layer.in_channels}, {stride}", *times])
    print(markdown_lines(["channels, stride of the input", *_WAYS], body, right=True))


if __name__ == "__main__":
    main()
