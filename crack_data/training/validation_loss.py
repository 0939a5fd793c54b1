"""The losses on the evaluation data, to be held against those of the training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.utils import comm
from torch import nn

from .norm import NORM_TYPES
from .samples import TrainSamples
from .sampling import load_records

# Of the crops and of the model's own sampling: the same at every evaluation.
SEED = 0


@torch.no_grad()
def validation_losses(cfg: CfgNode, model: nn.Module, bf16: bool) -> dict[str, float]:
    """The model's losses on one training-like crop of each photo in DATASETS.TEST.

    Returns:
        each loss, and their sum as "total_loss": means over all batches of all processes.
    """
    records = load_records(cfg, cfg.DATASETS.TEST)
    keys = [(i, i) for i in range(len(records))][comm.get_rank() :: comm.get_world_size()]
    loader = build_detection_test_loader(
        TrainSamples(cfg, records, SEED),
        mapper=None,
        sampler=keys,
        batch_size=max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    was_training = model.training
    model.train()
    for module in model.modules():
        if isinstance(module, NORM_TYPES):
            module.eval()
    torch.manual_seed(SEED)
    losses = _losses(model, loader, bf16)
    model.train(was_training)
    everyone = [loss for part in comm.all_gather(losses) for loss in part]
    return {name: float(np.mean([loss[name] for loss in everyone])) for name in everyone[0]}


def _losses(model: nn.Module, loader: Iterable[Any], bf16: bool) -> list[dict[str, float]]:
    found = []
    for batch in loader:
        readable = [sample for sample in batch if "image" in sample]
        if not readable:
            continue
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = model(readable)
        values = {name: float(loss) for name, loss in losses.items()}
        found.append({**values, "total_loss": sum(values.values())})
    return found
