"""Time of a training step: this project's trainer against Detectron2's own, in turns."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, build_detection_train_loader
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage, get_event_storage

from crack_data.config import load_config, shipped
from crack_data.datasets import register_datasets_of
from crack_data.errors import CrackError
from crack_data.training.data import build_train_loader
from crack_data.training.trainer import CrackTrainer

_WARM_UP, _STEPS = 2, 11


def measure_training(dataset: str) -> dict[str, float]:
    """Train the light model by both trainers on as many pixels a step.

    Detectron2's: `SimpleTrainer`, fp32, its own mapper and loader, BatchNorm in training mode.

    Args:
        dataset: a name in DatasetCatalog, or a COCO JSON.

    Returns:
        milliseconds a step and photos per second of both, and the ratio.

    Raises:
        CrackError: no such data set, or a trainer that fails.
    """
    cfg = load_config(str(shipped("configs/crack_mobilenet.yaml")))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.WEIGHTS", "", "SEED", "0"])
    cfg.DATASETS.TRAIN = (dataset,)
    cfg.DATASETS.TEST = ()
    register_datasets_of(cfg)
    trainers = [TimedTrainer(_stock_step, cfg), TimedTrainer(_own_step, cfg)]
    times: list[list[float]] = [[], []]
    for _ in range(_WARM_UP + _STEPS):
        for trainer, spent in zip(trainers, times, strict=True):
            spent.append(trainer.step())
    for trainer in trainers:
        trainer.stop()
    stock, own = (float(np.median(x[_WARM_UP:])) for x in times)
    photos = 1000.0 * cfg.SOLVER.IMS_PER_BATCH
    return {
        "Detectron2's trainer, ms a step": stock,
        "this project's trainer, ms a step": own,
        "Detectron2's trainer, photos/s": photos / stock,
        "this project's trainer, photos/s": photos / own,
        "times faster": stock / own,
    }


class TimedTrainer:
    """A trainer in a process of its own: what one does to its process, the other does not get."""

    def __init__(self, build: Callable[[CfgNode], Callable[[], None]], cfg: CfgNode) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_run_steps, args=(build, cfg, far_end))
        self.process.start()
        far_end.close()

    def step(self) -> float:
        """Take a step and return its milliseconds.

        Raises:
            CrackError: the process has ended.
        """
        try:
            self.pipe.send(None)
            return float(self.pipe.recv())
        except (EOFError, OSError) as error:
            raise CrackError("a trainer ended before its steps; its message is above") from error

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join()


def _run_steps(
    build: Callable[[CfgNode], Callable[[], None]], cfg: CfgNode, pipe: Connection
) -> None:
    register_datasets_of(cfg)
    with EventStorage():
        step = build(cfg)
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            started = time.perf_counter()
            step()
            pipe.send(1000 * (time.perf_counter() - started))


def _stock_step(cfg: CfgNode) -> Callable[[], None]:
    cfg = cfg.clone()
    # Whole photos at the size at which they have as many pixels as a crop: Detectron2's mapper
    # gives photos without cracks, and such crops, no masks at all.
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    records = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    shapes = np.array([(x["height"], x["width"]) for x in records])
    aspect = np.median(shapes.min(axis=1) / shapes.max(axis=1))
    cfg.INPUT.MIN_SIZE_TRAIN = (round(float(cfg.CRACK.AUG.CROP_SIZE * aspect**0.5)),)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    # It drops the masks of models without a mask branch, but the crack map learns from them.
    mapper = DatasetMapper(cfg, is_train=True, use_instance_mask=True)
    loader = build_detection_train_loader(cfg, mapper=mapper)
    trainer = SimpleTrainer(model, loader, build_optimizer(cfg, model))
    trainer.iter = 0
    return trainer.run_step


def _own_step(cfg: CfgNode) -> Callable[[], None]:
    trainer = CrackTrainer(cfg)
    trainer.iter = 0
    trainer.stepper.data_loader = trainer.train_batches(build_train_loader(cfg, trainer.seed))
    trainer.before_train()

    def step() -> None:
        # With its hooks: frozen statistics, learning rate, average of the weights.
        trainer.storage = get_event_storage()
        trainer.before_step()
        trainer.run_step()
        trainer.after_step()

    return step
