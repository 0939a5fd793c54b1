"""Weights to ship: half precision, nothing but tensors."""

from __future__ import annotations

import argparse
import os

import torch

from ..errors import CrackError, run_tool
from .checkpointing import save_state


def release_weights(source: str, target: str) -> int:
    """Write the weights of a checkpoint in fp16, for ``torch.load(..., weights_only=True)``.

    Averaged weights are taken where the checkpoint has them. A tensor that fp16 cannot hold stays
    in fp32.

    Args:
        source: of a training: model_best.pth, model_final.pth or model_XXXXXXX.pth.
        target: .pth file to write: {"model": weights}.

    Returns:
        the size of ``target`` in bytes.

    Raises:
        CrackError: ``source`` is missing or no checkpoint.
    """
    weights = _shipped_weights(source)
    save_state({"model": {name: _half(value) for name, value in weights.items()}}, target)
    return os.path.getsize(target)


def _shipped_weights(source: str) -> dict[str, torch.Tensor]:
    try:
        checkpoint = torch.load(source, map_location="cpu", weights_only=True)
        averaged = checkpoint.get("ema", {})
        prefix = "module."
        found = {
            name.removeprefix(prefix): value
            for name, value in averaged.items()
            if name.startswith(prefix)
        }
        return found or checkpoint["model"]
    except Exception as error:  # torch and pickle raise many types
        raise CrackError(f"{source} is not a checkpoint of a training") from error


def _half(value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if bool(torch.isfinite(half).all()) else value


def main() -> None:
    """Command line: SOURCE TARGET."""
    parser = argparse.ArgumentParser(description="Write a checkpoint's weights in fp16.")
    parser.add_argument("source", help="checkpoint of a training")
    parser.add_argument("target", help="file to write")
    args = parser.parse_args()
    size = release_weights(args.source, args.target)
    print(f"{args.target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
