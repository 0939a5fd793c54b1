"""The trainer: Detectron2's `DefaultTrainer` with what training on cracks needs."""

from __future__ import annotations

import json
import logging
import os
import weakref
from collections import OrderedDict
from contextlib import suppress
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, create_ddp_model, hooks
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators
from detectron2.utils import comm
from torch import nn

from ..errors import CrackError
from ..evaluation import CrackEvaluator
from .checkpointing import CrackCheckpointer, save_state
from .ema import build_ema
from .hooks import (
    FixedNormStatistics,
    KeepBest,
    SaveCheckpoints,
    Speed,
    StopTraining,
    UpdateAverage,
)
from .loading import load_initial_weights
from .optimizer import build_crack_optimizer
from .samples import build_train_loader
from .stepping import CrackStepper, WatchedLoader
from .watching import BatchWatch

logger = logging.getLogger("detectron2.crack_data.training")


class CrackTrainer(DefaultTrainer):
    """Trains, evaluates, saves and resumes.

    Everything random is a function of the seed and the iteration, so a resumed run repeats what an
    uninterrupted one does.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimizer, loader and hooks; nothing is loaded or trained yet.

        Raises:
            CrackError: keys of the config contradict each other or the machine.
        """
        # Not DefaultTrainer's own constructor: it hands CPU modules to DistributedDataParallel as
        # if they were on a GPU, and knows no autocast on the CPU.
        TrainerBase.__init__(self)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        _check(cfg)
        self.cfg = cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        torch.manual_seed(self.seed)
        self.plain_model = self.build_model(cfg)
        self.average = (
            build_ema(self.plain_model, cfg.CRACK.EMA_DECAY) if (cfg.CRACK.EMA_DECAY > 0) else None
        )
        self.stepper = self._build_stepper(cfg)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        self.checkpointer = self._build_checkpointer(cfg)
        self.register_hooks(self.build_hooks())

    # DefaultTrainer forwards these to a trainer it builds itself.
    @property
    def model(self) -> nn.Module:
        """The model that is trained, in DistributedDataParallel where there are processes."""
        return self.stepper.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the model."""
        return self.stepper.optimizer

    @property
    def data_loader(self) -> Any:
        """The training batches."""
        return self.stepper.data_loader

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """As in the base class, channels-last where CRACK.CHANNELS_LAST says so."""
        model = super().build_model(cfg)
        if cfg.CRACK.CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See `build_crack_optimizer`."""
        return build_crack_optimizer(cfg, model)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
        """COCO AP and the crack metrics."""
        coco = COCOEvaluator(dataset_name, output_dir=None)
        return DatasetEvaluators([coco, CrackEvaluator(dataset_name, cfg)])

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> OrderedDict[str, Any]:
        """As in the base class, in the precision of the training.

        With several test sets the mean of each metric over them is there too, under the key it
        would have with one set.
        """
        with torch.autocast("cpu", torch.bfloat16, enabled=_uses_bf16(cfg)):
            results = super().test(cfg, model, evaluators)
        if len(cfg.DATASETS.TEST) > 1 and comm.is_main_process():
            results.update(_means(list(results.values())))
        return results

    def build_hooks(self) -> list[HookBase]:
        """The hooks, in the order in which they run."""
        cfg, period = self.cfg, self.cfg.TEST.EVAL_PERIOD
        before: list[HookBase] = [hooks.IterationTimer(), Speed(cfg.SOLVER.IMS_PER_BATCH)]
        if cfg.CRACK.FREEZE_BN_STATS:
            backbone = self.plain_model.backbone
            before.append(FixedNormStatistics(getattr(backbone, "bottom_up", backbone)))
        before.append(hooks.LRScheduler())
        if self.average is not None:
            before.append(UpdateAverage(self.average, self.plain_model, cfg.SOLVER.ACCUMULATE))
        evaluation: list[HookBase] = []
        if cfg.DATASETS.TEST:
            metric, patience = cfg.CRACK.BEST_METRIC, cfg.CRACK.PATIENCE
            evaluation = [
                hooks.EvalHook(period, self.evaluate),
                KeepBest(metric, patience, period, self.save_weights),
            ]
        if not comm.is_main_process():
            return before + evaluation
        return [
            *before,
            *evaluation,
            SaveCheckpoints(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
            hooks.PeriodicWriter(self.build_writers(), period=20),
        ]

    def evaluate(self) -> OrderedDict[str, Any]:
        """Evaluate the weights that would be shipped: the average where there is one."""
        return self.test(self.cfg, self.shipped_model())

    def shipped_model(self) -> nn.Module:
        """The averaged model once it has been updated, else the trained one."""
        if self.average is not None and int(self.average.n_averaged) > 0:
            return self.average.module
        return self.plain_model

    def save_weights(self, name: str) -> None:
        """Save the weights that would be shipped as NAME.pth, without any other state."""
        if comm.is_main_process():
            state = {"model": self.shipped_model().state_dict(), "iteration": self.iter}
            save_state(state, os.path.join(self.cfg.OUTPUT_DIR, f"{name}.pth"))

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from OUTPUT_DIR's last checkpoint, or load the initial weights."""
        if resume and self.checkpointer.has_checkpoint():
            self.checkpointer.resume_or_load("", resume=True)
            self.start_iter = self.iter + 1
        else:
            load_initial_weights(self.cfg, self.plain_model)
        self._set_loader()

    def train(self) -> OrderedDict[str, Any] | None:
        """Train to the end, or until CRACK.PATIENCE is at its end."""
        results = None
        with suppress(StopTraining):
            results = super().train()
        self.save_weights("model_final")
        return results

    def run_step(self) -> None:
        """One iteration, with a random state of its own.

        Raises:
            CrackError: a loss is not finite; bad_batch.json names the photos.
        """
        torch.manual_seed(hash((self.seed, self.iter, comm.get_rank())) % 2**63)
        self.stepper.iter = self.iter
        try:
            self.stepper.run_step()
        except FloatingPointError as error:
            raise CrackError(self._report_bad_batch(str(error))) from error

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks, schedule, optimizer, seed."""
        state = TrainerBase.state_dict(self)
        return {**state, "stepper": self.stepper.state_dict(), "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        TrainerBase.load_state_dict(self, state_dict)
        self.stepper.load_state_dict(state_dict["stepper"])
        self.seed = state_dict["seed"]

    def _build_stepper(self, cfg: CfgNode) -> SimpleTrainer:
        optimizer = self.build_optimizer(cfg, self.plain_model)
        placing = {"device_ids": None} if _on_cpu(cfg) else {}
        model = create_ddp_model(self.plain_model, broadcast_buffers=False, **placing)
        if _uses_amp(cfg):
            return AMPTrainer(model, (), optimizer)
        accumulate = cfg.SOLVER.ACCUMULATE
        return CrackStepper(model, (), optimizer, bf16=_uses_bf16(cfg), accumulate=accumulate)

    def _build_checkpointer(self, cfg: CfgNode) -> CrackCheckpointer:
        parts: dict[str, Any] = {"trainer": weakref.proxy(self)}
        if self.average is not None:
            parts["ema"] = self.average
        return CrackCheckpointer(self.plain_model, cfg.OUTPUT_DIR, **parts)

    def _set_loader(self) -> None:
        start = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
        loader, photos = build_train_loader(self.cfg, self.seed, start)
        self.watch = BatchWatch(photos, self.cfg.CRACK.MAX_BAD_PHOTOS)
        self.stepper.data_loader = WatchedLoader(loader, self.watch)

    def _report_bad_batch(self, what: str) -> str:
        path = os.path.join(self.cfg.OUTPUT_DIR, f"bad_batch_{comm.get_rank()}.json")
        report = {"iteration": self.iter, "losses": what, "photos": self.watch.last}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        return (
            f"the loss became infinite or NaN at iteration {self.iter}; {path} names the photos of "
            "that batch; lower SOLVER.BASE_LR or look at them, then go on with --resume"
        )


def _on_cpu(cfg: CfgNode) -> bool:
    return cfg.MODEL.DEVICE == "cpu"


def _uses_amp(cfg: CfgNode) -> bool:
    return cfg.SOLVER.AMP.ENABLED and not _on_cpu(cfg)


def _uses_bf16(cfg: CfgNode) -> bool:
    return cfg.SOLVER.CPU_BF16 and _on_cpu(cfg)


def _check(cfg: CfgNode) -> None:
    """Raise CrackError where keys contradict each other or the machine."""
    solver = cfg.SOLVER
    if _uses_amp(cfg) and solver.ACCUMULATE > 1:
        raise CrackError("SOLVER.ACCUMULATE above 1 does not go with SOLVER.AMP.ENABLED")
    if solver.ACCUMULATE < 1 or solver.CHECKPOINT_PERIOD % solver.ACCUMULATE:
        raise CrackError(
            f"SOLVER.CHECKPOINT_PERIOD ({solver.CHECKPOINT_PERIOD}) must be a multiple of "
            f"SOLVER.ACCUMULATE ({solver.ACCUMULATE}), which is at least 1"
        )


def _means(results: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean over data sets of each metric that all of them have."""
    means: dict[str, dict[str, float]] = {}
    for task in results[0]:
        shared = [result[task] for result in results if task in result]
        if len(shared) == len(results):
            names = [name for name in shared[0] if all(name in one for one in shared)]
            means[task] = {name: sum(one[name] for one in shared) / len(shared) for name in names}
    return means
