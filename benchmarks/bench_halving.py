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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.evaluation.tables import markdown_lines

_LAYERS = ((96, 2), (144, 4), (192, 8), (576, 16))  # channels, stride of the input


def _bf16(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, weight.to(x.dtype), None, 2, 1, 1, len(weight))


def _fp32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x.float(), weight, None, 2, 1, 1, len(weight)).to(x.dtype)


def _every_second(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    whole = F.conv2d(x, weight.to(x.dtype), None, 1, 1, 1, len(weight))
    return whole[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


def best_time(
    convolve: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    channels: int,
    size: int,
    rounds: int,
) -> float:
    """Forward and backward on 6 square bf16 maps of so many px, channels-last: ms."""
    x = torch.randn(6, channels, size, size).bfloat16()
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(channels, 1, 3, 3).requires_grad_()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        output = convolve(x, weight)
        torch.autograd.grad(output, (x, weight), torch.ones_like(output))
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, metavar="N")
    rounds = parser.parse_args().rounds
    ways = {"bf16": _bf16, "fp32": _fp32, "stride 1, every second pixel": _every_second}
    body = [
        [f"{channels}, {stride}"]
        + [f"{best_time(way, channels, 320 // stride, rounds):.1f}" for way in ways.values()]
        for channels, stride in _LAYERS
    ]
    print(markdown_lines(["channels, stride of the input", *ways], body, numbers=True))


if __name__ == "__main__":
    main()
