"""The trainer: Detectron2's `DefaultTrainer` with what training on cracks needs."""

import logging
import os
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..errors import CrackError, as_crack_error
from ..evaluation.evaluator import evaluate_datasets
from ..inference.predictor import CrackPredictor
from ..modeling.roi_pooling import use_bag_pooling
from ..weights import load_initial_weights
from . import checkpoints
from .data import Batch, BatchLoader, build_train_loader
from .loop import BatchMonitor, KeepBest, build_hooks, build_reporting_hooks, build_stepper
from .report import cut_metrics

logger = logging.getLogger("detectron2.crack_data.training")


class CrackTrainer(DefaultTrainer):
    """Trains, evaluates, saves and resumes.

    Everything random is a function of the seed and the iteration, so a resumed run repeats what an
    uninterrupted one does.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimizer and hooks; nothing is loaded or trained yet."""
        # Not DefaultTrainer's own: it hands CPU modules to DistributedDataParallel as if they were
        # on a GPU, and knows no autocast on the CPU.
        TrainerBase.__init__(self)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        torch.manual_seed(self.seed)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.start_sample = 0
        self.awaited = 0  # iterations of the checkpoint, where its evaluation is still due
        self.ended = False  # whether `best` wants it to end before its last iteration
        # Without DistributedDataParallel around it.
        self.plain_model = self.build_model(cfg)
        if cfg.CRACK.CHANNELS_LAST:
            self.plain_model.to(memory_format=torch.channels_last)
        if cfg.MODEL.DEVICE == "cpu":
            use_bag_pooling(self.plain_model)
        decay = cfg.CRACK.EMA_DECAY
        self.average = checkpoints.build_ema(self.plain_model, decay) if decay > 0 else None
        # Its model, optimizer and data_loader are the trainer's, by DefaultTrainer's properties.
        self.stepper = self._trainer = build_stepper(cfg, self.plain_model)
        self.monitor = BatchMonitor(cfg.CRACK.MAX_BAD_PHOTOS)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        average = {"ema": self.average} if self.average else {}
        parts = {"trainer": weakref.proxy(self), **average}
        self.checkpointer = checkpoints.CrackCheckpointer(self.plain_model, cfg.OUTPUT_DIR, **parts)
        self.best = KeepBest()
        self.register_hooks(build_hooks(self))

    def evaluates(self, done: int) -> bool:
        """Whether the weights after so many iterations are evaluated, once they are saved."""
        period = self.cfg.TEST.EVAL_PERIOD
        due = done == self.awaited or done >= self.max_iter or (period > 0 and done % period == 0)
        return done > 0 and due and bool(self.cfg.DATASETS.TEST)

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the weights of `ema_or_model` on DATASETS.TEST; see `evaluate_datasets`."""
        model = self.ema_or_model()
        for statistics in model.buffers() if comm.get_world_size() > 1 else ():
            dist.broadcast(statistics, 0)  # which processes update each by its own batches
        predictor = CrackPredictor(self.cfg, model)
        results = evaluate_datasets(predictor, predictor.cfg)
        self.storage.put_scalars(**flatten_results_dict(results), smoothing_hint=False)
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
            checkpoints.save_state(state, Path(self.cfg.OUTPUT_DIR, f"{name}.pth"))

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from OUTPUT_DIR's last checkpoint, or load the initial weights."""
        folder, goes_on = self.cfg.OUTPUT_DIR, resume and self.checkpointer.has_checkpoint()
        if goes_on:
            with as_crack_error(f"{folder}/last_checkpoint is damaged; name a checkpoint in it"):
                path = self.checkpointer.get_checkpoint_file()
                os.stat(path)
            self.checkpointer.load(path)
        else:
            if resume:
                logger.warning(f"{folder} has no checkpoint: the training starts anew")
            load_initial_weights(self.cfg, self.plain_model)
        loader = build_train_loader(self.cfg, self.seed, self.start_sample)
        # All have loaded what may lie in there, and refused what cannot be.
        if len(set(comm.all_gather((goes_on, self.start_iter, self.seed)))) > 1:
            raise CrackError(
                f"the processes do not find the same checkpoint in OUTPUT_DIR {folder}; name a "
                "folder that all machines share"
            )
        if comm.is_main_process():
            if not goes_on and (aside := checkpoints.set_aside(folder)):
                logger.warning(f"The earlier training in {folder} is now in {aside}")
            # Before the writers open it: what is in there of later iterations comes again.
            cut_metrics(Path(folder, "metrics.json"), self.start_iter)
            self.register_hooks(build_reporting_hooks(self))
        self.stepper.data_loader = self.train_batches(loader)

    def train_batches(self, loader: BatchLoader) -> Iterator[Batch]:
        """The batches of a loader, watched, each with a random state of its own."""
        self.monitor.photos = len(loader.dataset)  # type: ignore[arg-type]
        for batch in loader:
            # Here and not before the batch is fetched: starting a loader draws random numbers.
            torch.manual_seed(hash((self.seed, self.iter, comm.get_rank())) % 2**63)
            yield self.monitor(batch)

    def train(self) -> None:
        """Train to the end, or until a hook ends it."""
        # Not by Detectron2's loop, which logs bad input with a traceback and knows no early end.
        logger.info(f"Starting training from iteration {self.start_iter}")
        if self.start_iter >= self.max_iter:
            logger.warning(f"SOLVER.MAX_ITER {self.max_iter} is reached: no iteration is left")
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.iter = self.start_iter
                self.before_train()
                while True:
                    self.before_step()  # in which the iterations before are evaluated
                    if self.ended or self.iter >= self.max_iter:
                        break
                    self.run_step()
                    self.after_step()
                    self.iter += 1
            except BaseException:
                with suppress(Exception):  # of which none hides what ended the training
                    self.after_train()
                raise
            self.after_train()
        if self.iter < self.max_iter:
            logger.info("Stopped: no better evaluation in CRACK.PATIENCE")
        self.save_weights("model_final")

    def run_step(self) -> None:
        """One iteration."""
        try:
            super().run_step()
        except FloatingPointError as error:
            path = Path(self.cfg.OUTPUT_DIR, f"bad_batch_{comm.get_rank()}.json")
            raise self.monitor.report(path, self.iter, str(error)) from error

    def state_dict(self) -> dict[str, Any]:
        """Iteration, place in the stream of samples, hooks, schedule, optimizer, seed."""
        done = self.iter + 1 - self.start_iter
        return {
            **TrainerBase.state_dict(self),
            "stepper": self.stepper.state_dict(),
            "parameters": checkpoints.parameter_names(self.optimizer, self.plain_model),
            "optimizer": self.cfg.SOLVER.OPTIMIZER,
            "config": self.cfg.dump(),
            "seed": self.seed,
            "awaited": self.iter + 1 if self.evaluates(self.iter + 1) else 0,
            "samples": self.start_sample + done * self.cfg.SOLVER.IMS_PER_BATCH,
            "bad_photos": dict(self.monitor.bad),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`; rates, schedule, decay and SEED >= 0 stay the config's.

        A ValueError where the state does not go with the config.
        """
        wanted = self.cfg.SOLVER.OPTIMIZER
        if state_dict["optimizer"] != wanted:
            raise ValueError(f"SOLVER.OPTIMIZER was {state_dict['optimizer']}, not {wanted}")
        names = checkpoints.parameter_names(self.optimizer, self.plain_model)
        stepper = dict(state_dict["stepper"])
        stepper["optimizer"] = checkpoints.match_optimizer_state(
            stepper["optimizer"], state_dict["parameters"], self.optimizer, names
        )
        self.stepper.load_state_dict(stepper)
        if self._changed_keys(state_dict["config"]) & {"CRACK.BEST_METRIC", "DATASETS.TEST"}:
            state_dict["hooks"].pop("KeepBest", None)  # values of another metric do not compare
        rates = self.scheduler.base_lrs
        TrainerBase.load_state_dict(self, state_dict)
        self.scheduler.base_lrs = rates
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_lr(), strict=True):
            group["lr"] = rate
        if self.cfg.SEED < 0:
            self.seed = state_dict["seed"]
        self.start_iter = self.iter + 1
        self.awaited = state_dict.get("awaited", 0)  # earlier versions evaluated before
        self.start_sample = state_dict["samples"]
        self.monitor.bad = state_dict["bad_photos"]

    def _changed_keys(self, dumped: str) -> set[str]:
        """The keys that the config has otherwise than a checkpoint's, which are logged."""
        before, now = (flatten_results_dict(yaml.safe_load(x)) for x in (dumped, self.cfg.dump()))
        changed = [key for key in before if key != "OUTPUT_DIR" and before[key] != now.get(key)]
        values = [f"{x.replace('/', '.')} {before[x]} -> {now.get(x)}" for x in changed]
        if changed:
            logger.info(f"The config has changed since the checkpoint: {', '.join(values)}")
        return {key.replace("/", ".") for key in changed}
