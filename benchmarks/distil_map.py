#!/usr/bin/env python
"""Teach a smaller crack map what a trained one sees: how the shipped weights got theirs.

``python benchmarks/distil_map.py --teacher-config WIDE.yaml --teacher WIDE.pth --output SMALL.pth``

Only the head of the crack map learns, from the teacher's map instead of the labels (distillation,
Hinton et al. 2015, arXiv:1503.02531); all else is the teacher's, as it is. With ``--turned`` the
teacher sees each batch mirrored or turned, so that the mean of its eight views is learned.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron2.config import CfgNode
from detectron2.modeling import build_model

from crack_data.config import load_predict_config
from crack_data.datasets import register_datasets_of
from crack_data.errors import run_tool
from crack_data.inference.predictor import CrackPredictor
from crack_data.training.checkpoints import build_ema, save_state
from crack_data.training.data import build_train_loader
from crack_data.training.loop import BatchMonitor
from crack_data.weights import read_checkpoint

_HEAD = "crack_map_head."
_BCE_WEIGHT = 10.0
_AVERAGE = 0.998


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--teacher-config", required=True, metavar="YAML", help="of the teacher and of the data")
    add("--teacher", required=True, metavar="PTH", help="its weights")
    add("--config-file", metavar="YAML", help="of the model to teach (default: the shipped one's)")
    add("--start", metavar="PTH", help="whose head to begin with (default: the teacher's)")
    add("--output", required=True, metavar="PTH", help="the checkpoint to write")
    add("--iterations", type=int, default=1500)
    add("--rate", type=float, default=2e-3, help="highest learning rate")
    add("--turned", action="store_true", help="learn the mean over eight views")
    add("--seed", type=int, default=0, help="of the crops")
    add("overrides", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="of the model to teach")
    return parser.parse_args()


def main() -> None:
    """Train the head and write the model with it."""
    given = parse_arguments()
    cfg = load_predict_config(given.teacher_config, given.teacher)
    cfg.CRACK.INFERENCE.FAST = "off"
    register_datasets_of(cfg, ("TRAIN",))
    teacher = CrackPredictor(cfg).model.requires_grad_(False)
    pupil_cfg = load_predict_config(given.config_file, None, given.overrides)
    pupil_cfg.MODEL.DEVICE = str(teacher.device)
    pupil = build_model(pupil_cfg).eval().requires_grad_(False)
    source, state = teacher.state_dict(), pupil.state_dict()
    head = {k: x for k, x in state.items() if k.startswith(_HEAD)}
    pupil.load_state_dict({k: source[k] for k in state if k not in head} | head)
    start = read_checkpoint(given.start)["model"] if given.start else source
    take_over(pupil.crack_map_head, start)
    for model in (teacher, pupil):
        model.to(memory_format=torch.channels_last)
    cfg.SEED = given.seed
    pupil.crack_map_head = teach(cfg, teacher, pupil, given.iterations, given.rate, given.turned)
    state = {k: x.contiguous() for k, x in pupil.state_dict().items()}
    save_state({"model": state}, given.output)


def take_over(head: nn.Module, start: dict[str, torch.Tensor]) -> None:
    """Give a head the layers of another that fit it, counted from the photo's side.

    Of a layer with too many channels those that the next weighs most are taken.
    """
    source = {k.removeprefix(_HEAD): x for k, x in start.items() if k.startswith(_HEAD)}
    last = max(int(name.split(".")[1]) for name in source if name.startswith("refine."))
    source = {
        name.replace(f"refine.{last}.", f"refine.{len(head.refine) - 1}."): x
        for name, x in source.items()
    }
    chain = [f"refine.{len(head.refine) - 1}", "last", "predictor"]
    for layer, following in itertools.pairwise(chain):
        strength = source[f"{following}.weight"].abs().sum((0, 2, 3))
        strength *= source[f"{layer}.norm.weight"].abs()
        wanted = min(len(strength), head.get_submodule(layer).out_channels)
        kept = strength.topk(wanted).indices.sort().values
        for name in [x for x in source if x.startswith(f"{layer}.") and source[x].dim()]:
            source[name] = source[name][kept]
        source[f"{following}.weight"] = source[f"{following}.weight"][:, kept]
    target = head.state_dict()
    fitting = {k: x for k, x in source.items() if k in target and target[k].shape == x.shape}
    head.load_state_dict(target | fitting)


def teach(
    cfg: CfgNode,
    teacher: nn.Module,
    pupil: nn.Module,
    iterations: int,
    rate: float,
    turned: bool,
) -> nn.Module:
    """Train the head of a pupil; return its moving average."""
    head = pupil.crack_map_head.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=iterations, pct_start=min(0.5, 50 / iterations)
    )
    average = build_ema(head, _AVERAGE)
    loader = build_train_loader(cfg, cfg.SEED)
    monitor = BatchMonitor(cfg.CRACK.MAX_BAD_PHOTOS)
    monitor.photos = len(loader.dataset)
    for iteration, batch in enumerate(itertools.islice(loader, iterations)):
        images = teacher.preprocess_image(monitor(batch)).tensor
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            view = int(torch.randint(8, ())) if turned else 0
            seen = turn(images, view)
            wide = teacher.crack_map_head(teacher.backbone(seen), seen)
            taught = turn(wide.sigmoid(), view, back=True)
            features = pupil.backbone(images)
        loss = map_loss(head(features, images), taught)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(head)
        if iteration % 50 == 49:
            print(f"{iteration + 1} of {iterations}: loss {loss.item():.4f}", flush=True)
    return average.module


def turn(x: torch.Tensor, view: int, back: bool = False) -> torch.Tensor:
    """One of the eight ways in which a photo can be mirrored and turned by right angles, (…, H, W).

    Bit 4 of ``view`` swaps rows and columns, then 1 and 2 mirror rows and columns.
    """
    axes = [axis for bit, axis in ((1, -2), (2, -1)) if view & bit]
    if view & 4 and not back:
        x = x.transpose(-2, -1)
    x = x.flip(axes)
    if view & 4 and back:
        x = x.transpose(-2, -1)
    return x


def map_loss(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Cross-entropy above the least that it can be, and Dice of squares; both are (N, H, W)."""
    least = F.binary_cross_entropy(taught, taught)
    entropy = F.binary_cross_entropy_with_logits(logits, taught) - least
    p = logits.sigmoid()
    dice = 1 - (2 * (p * taught).sum() + 1) / ((p * p).sum() + (taught * taught).sum() + 1)
    return _BCE_WEIGHT * entropy + dice


if __name__ == "__main__":
    run_tool(main)
