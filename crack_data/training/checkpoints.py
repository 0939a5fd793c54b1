"""Checkpoints: what is saved and how, what a resumed run takes over, and weights to ship."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..errors import CrackError, as_crack_error, run_tool
from ..files import atomic_write
from ..weights import load_weights, read_checkpoint

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


class CrackCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, reading by `load_weights`, writing each file in one step."""

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load model and states, all that there are or those named; return what is left.

        Raises:
            CrackError: as `load_weights`, or the file has no state of a training, or one that does
                not go with the config.
        """
        content = load_weights(self.model, path)
        if "trainer" in self.checkpointables and "trainer" not in content:
            raise CrackError(
                f"checkpoint {path} holds weights alone, from which no training goes on; name it "
                "as MODEL.WEIGHTS, without --resume"
            )
        try:
            for key in self.checkpointables if checkpointables is None else checkpointables:
                if key in content:
                    self.checkpointables[key].load_state_dict(content.pop(key))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CrackError(
                f"checkpoint {path} was written with other SOLVER or CRACK keys ({error}); "
                "resume with the config it was started with"
            ) from error
        return content

    def get_checkpoint_file(self) -> str:
        """The checkpoint that --resume takes; a `CrackError` where last_checkpoint names none."""
        place = Path(self.save_dir, "last_checkpoint")
        with as_crack_error(f"{place} is damaged; name a checkpoint in it"):
            path = super().get_checkpoint_file()
            if "\0" in path:
                raise ValueError(f"it holds {path!r}")
        return path

    def save(self, name: str, **extra: Any) -> None:
        """Save model and states as NAME.pth, and make it the one that --resume takes."""
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        save_state({"model": self.model.state_dict(), **states, **extra}, path)
        self.logger.info(f"Saved checkpoint {path}")
        with atomic_write(Path(self.save_dir, "last_checkpoint")) as file:
            file.write(path.name.encode())


def save_state(state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a dictionary with ``torch.save``, in one step.

    Raises:
        CrackError: the disk is full, or the folder cannot be written to.
    """
    buffer = io.BytesIO()  # torch.save raises errors of its own where a disk is full
    torch.save(state, buffer)
    try:
        with atomic_write(path) as file:
            file.write(buffer.getvalue())
    except CrackError as error:
        raise CrackError(f"{error}, then go on with --resume") from error


def remove_older(folder: str, iteration: int) -> None:
    """Remove the files model_XXXXXXX.pth before this iteration, but for the latest of them."""
    files = sorted(Path(folder).glob("model_[0-9]*.pth"))
    for file in [x for x in files if x.name < f"model_{iteration:07d}.pth"][:-1]:
        file.unlink(missing_ok=True)


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` whose weights and buffers follow it, weighted by ``decay`` a step.

    The first steps use a smaller decay, (1 + n) / (10 + n), so that the average does not remember
    the initial weights in a short training.
    """

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, steps: torch.Tensor | int) -> None:
        count = int(steps)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, weight)
            else:
                old.copy_(new)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def parameter_names(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    """The names of an optimizer's parameters, in the order in which it numbers them."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return [name_of[id(x)] for group in optimizer.param_groups for x in group["params"]]


def match_optimizer_state(
    saved: dict[str, Any],
    saved_names: Sequence[str] | None,
    optimizer: torch.optim.Optimizer,
    names: Sequence[str],
) -> dict[str, Any]:
    """The state to load into ``optimizer``: moments as saved, rates and weight decay its own.

    Args:
        saved: ``state_dict()`` of the same kind of optimizer.
        saved_names, names: `parameter_names` of that time (None: grouped as now) and of now.
        optimizer: built from the config.

    Raises:
        ValueError: the two do not have the same parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    sizes = [[len(group["params"]) for group in x] for x in (saved["param_groups"], groups)]
    number_of = {name: number for number, name in enumerate(saved_names or names)}
    if number_of.keys() != set(names) or (saved_names is None and sizes[0] != sizes[1]):
        raise ValueError("other parameters are trained, or in other groups")
    moments = {
        number: saved["state"][number_of[name]]
        for number, name in enumerate(names)
        if number_of[name] in saved["state"]
    }
    return {"state": moments, "param_groups": groups}


def changed_keys(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> dict[str, str]:
    """The keys of one config that another has otherwise, as {KEY: "old -> new"}."""
    changed: dict[str, str] = {}
    for key, old in before.items():
        new = now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= changed_keys(old, new, f"{prefix}{key}.")
        elif old != new:
            changed[prefix + key] = f"{old} -> {new}"
    return changed


def release_weights(sources: Sequence[str], target: str) -> int:
    """Write the mean of the weights of checkpoints in fp16, and nothing else.

    Of each the averaged weights are taken where it has them. A tensor that fp16 cannot hold stays
    in fp32. The mean of a model and of what it became by training on is often better than both
    (Wortsman et al. 2022, arXiv:2203.05482).

    Returns:
        the file's size in bytes.

    Raises:
        CrackError: a source is missing, no checkpoint, or of another model than the first; or
            ``target`` cannot be written.
    """
    weights = _plain_weights(sources[0])
    for count, source in enumerate(sources[1:], start=2):
        other = _plain_weights(source)
        shapes, others = ({k: v.shape for k, v in x.items()} for x in (weights, other))
        if shapes != others:
            raise CrackError(f"checkpoints {sources[0]} and {source} are of different models")
        for name, value in weights.items():
            if value.is_floating_point():
                weights[name] = value.float().lerp(other[name].float(), 1 / count)
    for name, value in weights.items():
        if value.is_floating_point() and bool(torch.isfinite(value.half()).all()):
            weights[name] = value.half()
    save_state({"model": weights}, target)
    return os.path.getsize(target)


def _plain_weights(path: str) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint where it has them, else those of its model."""
    checkpoint = read_checkpoint(path)
    averaged = {
        name.removeprefix("module."): value
        for name, value in checkpoint.get("ema", {}).items()
        if name.startswith("module.")
    }
    return dict(averaged or checkpoint["model"])


def main() -> None:
    """Command line: SOURCE [SOURCE ...] TARGET."""
    parser = argparse.ArgumentParser(description="Write checkpoints' mean weights in fp16.")
    parser.add_argument("sources", nargs="+", help="one or more of the same model")
    parser.add_argument("target", help="file to write")
    args = parser.parse_args()
    size = release_weights(args.sources, args.target)
    print(f"{args.target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
