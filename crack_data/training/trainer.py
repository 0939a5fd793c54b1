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
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, create_ddp_model
from detectron2.engine import hooks as stock
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.utils import comm
from torch import nn

from ..errors import CrackError
from ..evaluation import evaluate_datasets
from ..inference.predictor import CrackPredictor
from ..modeling.roi_pooling import use_bag_pooling
from ..weights import load_initial_weights, load_weights
from .checkpoints import (
    CrackCheckpointer,
    build_ema,
    changed_keys,
    match_optimizer_state,
    parameter_names,
    save_state,
)
from .data import Batch, build_train_loader
from .hooks import KeepBest, Progress, ReestimateNorm, reporting_hooks, step_hooks
from .loop import (
    BatchMonitor,
    CrackStepper,
    StopTraining,
    build_crack_optimizer,
    check_solver,
    stopping,
    unwritable,
    uses_bf16,
    validation_losses,
)
from .report import cut_metrics

logger = logging.getLogger("detectron2.crack_data.training")


class CrackTrainer(DefaultTrainer):
    """Trains, evaluates, saves and resumes.

    Everything random is a function of the seed and the iteration, so a resumed run repeats what an
    uninterrupted one does.

    Attributes:
        plain_model: the model without DistributedDataParallel around it.
        average: the moving average of its weights, or None.
        stepper: computes an iteration; holds model, optimizer and loader.
        monitor: knows the last batch and the unreadable photos.
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
        check_solver(cfg)
        self.cfg = cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        torch.manual_seed(self.seed)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.start_sample = 0
        self.plain_model = self.build_model(cfg)
        if cfg.MODEL.DEVICE == "cpu":
            use_bag_pooling(self.plain_model)
        decay = cfg.CRACK.EMA_DECAY
        self.average = build_ema(self.plain_model, decay) if decay > 0 else None
        # Its model, optimizer and data_loader are the trainer's, by DefaultTrainer's properties.
        self.stepper = self._trainer = self._build_stepper(cfg)
        self.monitor = BatchMonitor(cfg.CRACK.MAX_BAD_PHOTOS)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        parts: dict[str, Any] = {"trainer": weakref.proxy(self)}
        if self.average is not None:
            parts["ema"] = self.average
        self.checkpointer = CrackCheckpointer(self.plain_model, cfg.OUTPUT_DIR, **parts)
        self.progress = Progress()
        self.error: CrackError | None = None  # that ended the training
        self.register_hooks(self.build_hooks())

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
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> OrderedDict[str, Any]:
        """Evaluate on DATASETS.TEST through `CrackPredictor`: see `evaluate_datasets`."""
        return evaluate_datasets(CrackPredictor(cfg, model), cfg)

    def build_hooks(self) -> list[HookBase]:
        """Timing, weights and evaluation, in the order in which they run."""
        cfg, period = self.cfg, self.cfg.TEST.EVAL_PERIOD
        found = step_hooks(cfg, self.plain_model, self.average)
        if cfg.TEST.PRECISE_BN.ENABLED:
            batches, loader = cfg.TEST.PRECISE_BN.NUM_ITER, lambda: self.train_batches(0)
            found.append(ReestimateNorm(period, batches, self.ema_or_model, loader))
        if cfg.DATASETS.TEST:
            metric, patience = cfg.CRACK.BEST_METRIC, cfg.CRACK.PATIENCE
            found.append(stock.EvalHook(period, self.evaluate))
            found.append(KeepBest(self.progress, metric, patience, period, self.save_weights))
        return found

    def evaluate(self) -> OrderedDict[str, Any]:
        """Evaluate the averaged weights, or the trained ones where there is no average."""
        results = self.test(self.cfg, self.ema_or_model())
        if self.cfg.CRACK.VALIDATION_LOSS:
            results["validation"] = validation_losses(self.cfg, self.ema_or_model())
        return results

    def ema_or_model(self) -> nn.Module:
        """The averaged model once it has been updated, else the trained one."""
        if self.average is not None and int(self.average.n_averaged) > 0:
            return self.average.module
        return self.plain_model

    def save_weights(self, name: str) -> None:
        """Save the weights of `ema_or_model` as NAME.pth, without any other state."""
        if comm.is_main_process():
            state = {"model": self.ema_or_model().state_dict(), "iteration": self.iter}
            save_state(state, os.path.join(self.cfg.OUTPUT_DIR, f"{name}.pth"))

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from OUTPUT_DIR's last checkpoint, or load the initial weights.

        Raises:
            CrackError: they do not fit the config, or OUTPUT_DIR cannot be written to.
        """
        if resume and self.checkpointer.has_checkpoint():
            self._resume(self.checkpointer.get_checkpoint_file())
        else:
            load_initial_weights(self.cfg, self.plain_model)
        if comm.is_main_process():
            try:
                # Before the writers open it: what is in there of later iterations comes again.
                cut_metrics(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json"), self.start_iter)
                parts = self.build_writers(), self.checkpointer, self.monitor, self.progress
                self.register_hooks(reporting_hooks(self.cfg, *parts))
            except OSError as error:
                raise unwritable(self.cfg.OUTPUT_DIR, error) from error
        self.stepper.data_loader = self.train_batches(self.start_sample)

    def train_batches(self, start: int) -> Iterator[Batch]:
        """The training batches from sample ``start`` of the stream on."""
        loader = build_train_loader(self.cfg, self.seed, start)
        self.monitor.photos = loader.photos
        return map(self._receive, loader)

    def train(self) -> OrderedDict[str, Any] | None:
        """Train to the end, or until CRACK.PATIENCE is at its end.

        Raises:
            CrackError: bad input, a data-loading process that died, or OUTPUT_DIR cannot be
                written to.
        """
        results = None
        try:
            results = super().train()
        except StopTraining as stop:
            if stop.error is not None:
                raise stop.error from None
        except OSError as error:  # of what writes after the last iteration
            raise unwritable(self.cfg.OUTPUT_DIR, error) from error
        self.save_weights("model_final")
        return results

    def run_step(self) -> None:
        """One iteration; bad input ends the loop without a traceback."""
        self.stepper.iter = self.iter
        folder = self.cfg.OUTPUT_DIR
        with self._stopping():
            try:
                self.stepper.run_step()
            except FloatingPointError as error:
                raise CrackError(self.monitor.report(folder, self.iter, str(error))) from error

    def after_step(self) -> None:
        """Run the hooks."""
        with self._stopping():
            super().after_step()

    def after_train(self) -> None:
        """Run the hooks; what fails here does not hide the error that ended the training."""
        try:
            super().after_train()
        except Exception:
            if self.error is None:
                raise

    def state_dict(self) -> dict[str, Any]:
        """Iteration, place in the stream of samples, hooks, schedule, optimizer, seed."""
        done = self.iter + 1 - self.start_iter
        return {
            **TrainerBase.state_dict(self),
            "stepper": self.stepper.state_dict(),
            "parameters": parameter_names(self.optimizer, self.plain_model),
            "optimizer": self.cfg.SOLVER.OPTIMIZER,
            "solver": self.cfg.SOLVER.dump(),
            "seed": self.seed,
            "samples": self.start_sample + done * self.cfg.SOLVER.IMS_PER_BATCH,
            "bad_photos": dict(self.monitor.bad),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`; sets where training starts.

        Rates, schedule and weight decay are the config's, whatever they were before.

        Raises:
            ValueError: the state does not go with the config.
        """
        solver = self.cfg.SOLVER
        if state_dict.get("optimizer", solver.OPTIMIZER) != solver.OPTIMIZER:
            raise ValueError(f"SOLVER.OPTIMIZER was {state_dict['optimizer']}")
        names = parameter_names(self.optimizer, self.plain_model)
        stepper = dict(state_dict["stepper"])
        stepper["optimizer"] = match_optimizer_state(
            stepper["optimizer"], state_dict.get("parameters"), self.optimizer, names
        )
        self.stepper.load_state_dict(stepper)
        rates = self.scheduler.base_lrs
        TrainerBase.load_state_dict(self, state_dict)
        self.scheduler.base_lrs = rates
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_lr(), strict=True):
            group["lr"] = rate
        self.seed = state_dict["seed"]
        self.start_iter = self.iter + 1
        self.start_sample = state_dict.get(
            "samples", self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
        )
        self.monitor.bad = state_dict.get("bad_photos", {})
        changed = changed_keys(state_dict.get("solver"), solver)
        if changed:
            logger.info(f"The config has changed since the checkpoint: {changed}")

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            with stopping(self.cfg.OUTPUT_DIR):
                yield
        except StopTraining as stop:
            self.error = stop.error
            raise

    def _receive(self, batch: Batch) -> Batch:
        """Note what a batch says, and give its iteration a random state of its own.

        Here and not before the batch is fetched: starting a loader draws random numbers.
        """
        state = hash((self.seed, self.iter, comm.get_rank()))
        torch.manual_seed(state % 2**63)
        return self.monitor(batch)

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
        on_cpu = cfg.MODEL.DEVICE == "cpu"
        placing = {"device_ids": None} if on_cpu else {}
        model = create_ddp_model(self.plain_model, broadcast_buffers=False, **placing)
        if cfg.SOLVER.AMP.ENABLED and not on_cpu:
            return AMPTrainer(model, (), optimizer)
        bf16 = uses_bf16(cfg)
        if cfg.SOLVER.CPU_BF16 and on_cpu and not bf16:
            logger.info("SOLVER.CPU_BF16: this processor has no bf16; training computes in fp32")
        return CrackStepper(model, (), optimizer, bf16=bf16, accumulate=cfg.SOLVER.ACCUMULATE)
