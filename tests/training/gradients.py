"""Gradients of one joint batch in N processes: gradients.py N FILE CONFIG KEY VALUE …"""

from __future__ import annotations

import itertools
import sys

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch.nn.functional import binary_cross_entropy_with_logits

from crack_data.config import load_config
from crack_data.datasets import register_datasets_of
from crack_data.modeling import crack_rcnn
from crack_data.training.trainer import CrackTrainer


def _without_dice(logits: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    bce = binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")
    return bce / weight.sum().clamp(min=1)


def compute(path: str, config: str, pairs: list[str]) -> None:
    """Run one iteration; the main process writes the gradients and the photos of its batch."""
    torch.set_num_threads(1)
    crack_rcnn.crack_map_loss = _without_dice
    cfg = load_config(config, pairs)
    register_datasets_of(cfg)
    trainer = CrackTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.iter = 0
    with EventStorage() as trainer.storage:
        trainer.run_step()
    photos = comm.all_gather([photo["image_id"] for photo in trainer.monitor.last])
    if comm.is_main_process():
        gradients = {name: p.grad for name, p in trainer.plain_model.named_parameters()}
        torch.save({"gradients": gradients, "photos": sorted(itertools.chain(*photos))}, path)


if __name__ == "__main__":
    launch(
        compute, int(sys.argv[1]), dist_url="auto", args=(sys.argv[2], sys.argv[3], sys.argv[4:])
    )
