"""Checkpoints: what is saved and how, what a resumed run takes over, and weights to ship."""

import argparse
import io
import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from ..errors import CrackError, as_crack_error, run_tool
from ..storage import write_bytes
from ..weights import averaged_weights, load_weights, read_checkpoint


class CrackCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, reading by `load_weights`, writing each file in one step."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load the model, and all states that there are; return what is left."""
        content = load_weights(self.model, path, raw=True)
        with as_crack_error(
            f"checkpoint {path} holds no training that can go on with this config; resume with the "
            "one it was started with"
        ):
            for key, part in self.checkpointables.items():
                if key in content or key == "trainer":
                    part.load_state_dict(content.pop(key))
        return content

    def save(self, name: str, **extra: Any) -> None:
        """Save model and states as NAME.pth, and make it the one that --resume takes."""
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        save_state({"model": self.model.state_dict(), **states, **extra}, path)
        self.logger.info(f"Saved checkpoint {path}")
        write_bytes(Path(self.save_dir, "last_checkpoint"), path.name.encode())


def save_state(state: dict[str, Any], path: str | Path) -> None:
    """Write a dictionary with ``torch.save``, in one step."""
    buffer = io.BytesIO()  # torch.save raises errors of its own where a disk is full
    torch.save(state, buffer)
    write_bytes(Path(path), buffer.getvalue())


def remove_older(folder: str, iteration: int) -> None:
    """Remove the files model_XXXXXXX.pth before this iteration, but for the latest of them."""
    files = sorted(Path(folder).glob("model_[0-9]*.pth"))
    for file in [x for x in files if x.name < f"model_{iteration:07d}.pth"][:-1]:
        file.unlink(missing_ok=True)


def set_aside(folder: str) -> Path | None:
    """Move an earlier training's files, if it left weights, to a new folder in there; return it."""
    if not [*Path(folder).glob("model_*.pth"), *Path(folder).glob("last_checkpoint")]:
        return None
    aside = next(x for n in itertools.count(1) if not (x := Path(folder, f"earlier_{n}")).exists())
    aside.mkdir()
    # Its config is the checkpoint's, if that is whole: config.yaml is the new training's already.
    with suppress(CrackError), as_crack_error(f"the earlier training in {folder} is damaged"):
        state = read_checkpoint(f"{folder}/{Path(folder, 'last_checkpoint').read_text()}")
        write_bytes(aside / "config.yaml", state["trainer"]["config"].encode())
    names = ("model_*", "last_checkpoint", "metrics.json", "summary.md", "curves.png", "inference",
             "events.out.tfevents.*", "bad_batch_*.json")  # fmt: skip
    for path in itertools.chain(*map(Path(folder).glob, names)):
        path.rename(aside / path.name)
    return aside


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` whose weights and buffers follow it, weighted by ``decay`` a step."""

    def update(old: torch.Tensor, new: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        # At first less, so that the average does not remember the initial weights for long.
        weight = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        return old.lerp(new, weight) if old.is_floating_point() else new

    return AveragedModel(model, avg_fn=update, use_buffers=True)


def parameter_names(optimizer: Optimizer, model: nn.Module) -> list[str]:
    """The names of an optimizer's parameters, in the order in which it numbers them."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return [name_of[id(x)] for group in optimizer.param_groups for x in group["params"]]


def match_optimizer_state(
    saved: dict[str, Any], saved_names: Sequence[str], optimizer: Optimizer, names: Sequence[str]
) -> dict[str, Any]:
    """The state to load into ``optimizer``: moments as saved, rates and weight decay its own.

    ``saved`` is the ``state_dict()`` of one of the same kind, ``saved_names`` were its
    `parameter_names`, in any groups. A ValueError where they are not the same parameters.
    """
    if set(saved_names) != set(names):
        raise ValueError("other parameters are trained")
    moments = {saved_names[number]: moment for number, moment in saved["state"].items()}
    return {
        "state": {i: moments[name] for i, name in enumerate(names) if name in moments},
        "param_groups": optimizer.state_dict()["param_groups"],
    }


def release_weights(sources: Sequence[str], target: str) -> int:
    """Write the mean of the weights of checkpoints in fp16, and nothing else; return its bytes.

    A tensor that fp16 cannot hold stays in fp32. The mean of a model and of what it became by
    training on is often better than both (Wortsman et al. 2022, arXiv:2203.05482). A `CrackError`
    where they are of different models.
    """
    weights = averaged_weights(read_checkpoint(sources[0]))
    for count, source in enumerate(sources[1:], start=2):
        other = averaged_weights(read_checkpoint(source))
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


def main() -> None:
    """Command line: SOURCE [SOURCE ...] TARGET."""
    parser = argparse.ArgumentParser(description="Write checkpoints' mean weights in fp16.")
    parser.add_argument("sources", nargs="+", help="one or more of the same model")
    parser.add_argument("target", help="file to write")
    args = parser.parse_args()
    print(f"{args.target}: {release_weights(args.sources, args.target) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
