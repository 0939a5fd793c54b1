"""The trainer: Detectron2's `DefaultTrainer` with what training on cracks needs."""

from __future__ import annotations

import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, create_ddp_model
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators
from detectron2.utils import comm
from torch import nn

from ..errors import CrackError
from ..evaluation import CrackEvaluator
from ..modeling.roi_pooling import use_bag_pooling
from ..weights import load_initial_weights, load_weights
from .build_hooks import build_crack_hooks, build_reporting_hooks
from .checkpointing import CrackCheckpointer, save_state
from .ema import build_ema
from .evaluating import EvaluationMapper, with_means
from .history import cut_metrics
from .hooks import Progress, StopTraining
from .memory import keep_freed_memory
from .optimizer import build_crack_optimizer
from .precision import on_cpu, uses_amp, uses_bf16
from .samples import build_train_loader
from .stepping import Batch, CrackStepper, WatchedLoader
from .validation_loss import validation_losses
from .watching import BatchWatch

logger = logging.getLogger("detectron2.crack_data.training")


class CrackTrainer(DefaultTrainer):
    """Trains, evaluates, saves and resumes.

    Everything random is a function of the seed and the iteration, so a resumed run repeats what an
    uninterrupted one does.

    Attributes:
        plain_model: the model without DistributedDataParallel around it.
        average: the moving average of its weights, or None.
        stepper: computes an iteration; holds model, optimizer and loader.
        watch: knows the last batch and the unreadable photos.
        progress: the best evaluation so far.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimizer and hooks; nothing is loaded or trained yet.

        Raises:
            CrackError: keys of the config contradict each other.
        """
        # Not DefaultTrainer's own constructor: it hands CPU modules to DistributedDataParallel as
        # if they were on a GPU, and knows no autocast on the CPU.
        TrainerBase.__init__(self)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        _check(cfg)
        self.cfg = cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        torch.manual_seed(self.seed)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.start_sample = 0
        self.plain_model = self.build_model(cfg)
        if on_cpu(cfg):
            use_bag_pooling(self.plain_model)
            keep_freed_memory()
        decay = cfg.CRACK.EMA_DECAY
        self.average = build_ema(self.plain_model, decay) if decay > 0 else None
        self.stepper = self._build_stepper(cfg)
        self.watch = BatchWatch(cfg.CRACK.MAX_BAD_PHOTOS)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        self.checkpointer = self._build_checkpointer(cfg)
        self.progress = Progress()
        self.register_hooks(self.build_hooks())

    # DefaultTrainer forwards these to a trainer that it builds itself.
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
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """As in the base class, with a sentence for a photo that cannot be read."""
        return build_detection_test_loader(cfg, dataset_name, mapper=EvaluationMapper(cfg))

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
        with torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16(cfg)):
            results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            results = with_means(results, cfg.DATASETS.TEST)
        return results

    def build_hooks(self) -> list[HookBase]:
        """See `build_crack_hooks`."""
        return build_crack_hooks(self)

    def evaluate(self) -> OrderedDict[str, Any]:
        """Evaluate the weights that would be shipped: the average where there is one."""
        results = self.test(self.cfg, self.shipped_model())
        if self.cfg.CRACK.VALIDATION_LOSS:
            losses = validation_losses(self.cfg, self.shipped_model(), uses_bf16(self.cfg))
            results["validation"] = losses
        return results

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
        """Go on from OUTPUT_DIR's last checkpoint, or load the initial weights.

        Raises:
            CrackError: they do not fit the config.
        """
        if resume and self.checkpointer.has_checkpoint():
            self._resume(self.checkpointer.get_checkpoint_file())
        else:
            load_initial_weights(self.cfg, self.plain_model)
        if comm.is_main_process():
            # Before the writers open it: what is in there of later iterations comes again.
            cut_metrics(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json"), self.start_iter)
        self.register_hooks(build_reporting_hooks(self))
        self.stepper.data_loader = self.train_loader(self.start_sample)

    def train_loader(self, start: int) -> WatchedLoader:
        """The training batches from sample ``start`` of the stream on."""
        loader, self.watch.photos = build_train_loader(self.cfg, self.seed, start)
        return WatchedLoader(loader, self._receive)

    def train(self) -> OrderedDict[str, Any] | None:
        """Train to the end, or until CRACK.PATIENCE is at its end.

        Raises:
            CrackError: bad input, or a checkpoint that cannot be written.
        """
        results = None
        try:
            results = super().train()
        except StopTraining as stop:
            if stop.error is not None:
                raise stop.error from None
        self.save_weights("model_final")
        return results

    def run_step(self) -> None:
        """One iteration; bad input ends the loop without a traceback."""
        self.stepper.iter = self.iter
        with _stopping():
            try:
                self.stepper.run_step()
            except FloatingPointError as error:
                raise CrackError(
                    self.watch.report(self.cfg.OUTPUT_DIR, self.iter, str(error))
                ) from error

    def after_step(self) -> None:
        """Run the hooks."""
        with _stopping():
            super().after_step()

    def state_dict(self) -> dict[str, Any]:
        """Iteration, place in the stream of samples, hooks, schedule, optimizer, seed."""
        done = self.iter + 1 - self.start_iter
        return {
            **TrainerBase.state_dict(self),
            "stepper": self.stepper.state_dict(),
            "optimizer": self.cfg.SOLVER.OPTIMIZER,
            "seed": self.seed,
            "samples": self.start_sample + done * self.cfg.SOLVER.IMS_PER_BATCH,
            "bad_photos": dict(self.watch.bad),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`; sets where training starts.

        Raises:
            ValueError: the state does not go with the config.
        """
        optimizer = state_dict.get("optimizer", self.cfg.SOLVER.OPTIMIZER)
        if optimizer != self.cfg.SOLVER.OPTIMIZER:
            raise ValueError(f"SOLVER.OPTIMIZER was {optimizer}")
        TrainerBase.load_state_dict(self, state_dict)
        self.stepper.load_state_dict(state_dict["stepper"])
        self.seed = state_dict["seed"]
        self.start_iter = self.iter + 1
        self.start_sample = state_dict.get(
            "samples", self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
        )
        self.watch.bad = state_dict.get("bad_photos", {})

    def _receive(self, batch: Batch) -> Batch:
        """Note what a batch says, and give its iteration a random state of its own.

        Here and not before the batch is fetched: starting a loader draws random numbers.
        """
        state = hash((self.seed, self.iter, comm.get_rank()))
        torch.manual_seed(state % 2**63)
        return self.watch(batch)

    def _resume(self, path: str) -> None:
        load_weights(self.plain_model, path)
        try:
            self.checkpointer.resume_or_load("", resume=True)
        except (KeyError, ValueError) as error:
            raise CrackError(
                f"checkpoint {path} was written with other SOLVER or CRACK keys ({error}); resume "
                "with the config it was started with"
            ) from error

    def _build_stepper(self, cfg: CfgNode) -> SimpleTrainer:
        optimizer = self.build_optimizer(cfg, self.plain_model)
        placing = {"device_ids": None} if on_cpu(cfg) else {}
        model = create_ddp_model(self.plain_model, broadcast_buffers=False, **placing)
        if uses_amp(cfg):
            return AMPTrainer(model, (), optimizer)
        accumulate = cfg.SOLVER.ACCUMULATE
        return CrackStepper(model, (), optimizer, bf16=uses_bf16(cfg), accumulate=accumulate)

    def _build_checkpointer(self, cfg: CfgNode) -> CrackCheckpointer:
        parts: dict[str, Any] = {"trainer": weakref.proxy(self)}
        if self.average is not None:
            parts["ema"] = self.average
        return CrackCheckpointer(self.plain_model, cfg.OUTPUT_DIR, **parts)


@contextmanager
def _stopping() -> Iterator[None]:
    """Leave the loop with a sentence instead of a logged traceback."""
    try:
        yield
    except CrackError as error:
        raise StopTraining(error) from error


def _check(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if uses_amp(cfg) and solver.ACCUMULATE > 1:
        raise CrackError("SOLVER.ACCUMULATE above 1 does not go with SOLVER.AMP.ENABLED")
    if solver.ACCUMULATE < 1 or solver.CHECKPOINT_PERIOD % solver.ACCUMULATE:
        raise CrackError(
            f"SOLVER.CHECKPOINT_PERIOD ({solver.CHECKPOINT_PERIOD}) must be a multiple of "
            f"SOLVER.ACCUMULATE ({solver.ACCUMULATE}), which is at least 1"
        )
