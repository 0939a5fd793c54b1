"""What happens between the iterations."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine import hooks as stock
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..weights import bottom_up
from .checkpoints import CrackCheckpointer, remove_older
from .loop import NORM_TYPES, BatchMonitor, StopTraining
from .report import draw_curves, read_metrics, write_summary

logger = logging.getLogger("detectron2.crack_data.training")


def step_hooks(cfg: CfgNode, model: nn.Module, average: AveragedModel | None) -> list[HookBase]:
    """What belongs to every iteration: time, fixed statistics, learning rate, average."""
    found: list[HookBase] = [stock.IterationTimer(), Speed(cfg.SOLVER.IMS_PER_BATCH)]
    if cfg.CRACK.FREEZE_BN_STATS:
        networks = [model] if average is None else [model, average.module]
        found.append(FixedNormStatistics(*map(bottom_up, networks)))
    found.append(stock.LRScheduler())
    if average is not None:
        found.append(UpdateAverage(average, model, cfg.SOLVER.ACCUMULATE))
    return found


def reporting_hooks(
    cfg: CfgNode,
    writers: list[EventWriter],
    checkpointer: CrackCheckpointer,
    monitor: BatchMonitor,
    progress: Progress,
) -> list[HookBase]:
    """What writes into OUTPUT_DIR, in the main process."""
    # Writers know the latest value of a metric only, so they write at every evaluation; and before
    # each checkpoint, because what is not written then is not written after a resumption either.
    saving, evaluation = cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD
    return [
        stock.PeriodicWriter(writers, period=math.gcd(20, saving, evaluation)),
        SaveCheckpoints(checkpointer, saving),
        WriteReport(monitor, progress),
    ]


class UpdateAverage(HookBase):
    """Moves the average of the weights after each optimizer step."""

    def __init__(self, average: AveragedModel, model: nn.Module, every: int) -> None:
        self.average = average
        self.model = model
        self.every = every

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.every == 0:
            self.average.update_parameters(self.model)


class Speed(HookBase):
    """Writes photos per second; Detectron2's printer shows what is marked as a metric."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def after_step(self) -> None:
        storage = self.trainer.storage
        latest = storage.latest().get("time")
        if latest is not None and latest[1] == self.trainer.iter:
            storage.put_scalar("[metric]img_per_s", self.batch_size / latest[0])


class FixedNormStatistics(HookBase):
    """Keeps the running statistics of the networks' BatchNorm layers as they are."""

    def __init__(self, *networks: nn.Module) -> None:
        modules = [module for network in networks for module in network.modules()]
        self.layers = [module for module in modules if isinstance(module, NORM_TYPES)]

    def before_step(self) -> None:
        """Undo what ``model.train()`` does to them after an evaluation."""
        for layer in self.layers:
            layer.eval()


class ReestimateNorm(HookBase):
    """Before each evaluation, averages BatchNorm's statistics of the evaluated weights anew.

    Statistics that `FixedNormStatistics` keeps are left alone. Detectron2's own hook goes on
    where it stopped in the data; this one takes the same batches each time, so that a resumed
    run does what an uninterrupted one does.
    """

    def __init__(
        self,
        period: int,
        batches: int,
        model: Callable[[], nn.Module],
        loader: Callable[[], Iterable[Any]],
    ) -> None:
        """Args: see TEST.EVAL_PERIOD and TEST.PRECISE_BN.NUM_ITER; the others make theirs."""
        self.period = period
        self.batches = batches
        self.model = model
        self.loader = loader

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        last = done == self.trainer.max_iter
        if last or (self.period > 0 and done % self.period == 0):
            model = self.model()
            if get_bn_modules(model):
                update_bn_stats(model, self.loader(), self.batches)


@dataclass
class Progress:
    """The best evaluation so far, and how it went on."""

    best: float | None = None
    best_iteration: int = -1
    without_gain: int = 0  # evaluations since


class KeepBest(HookBase):
    """Saves the weights that were best on the evaluation data, and ends a training without gain."""

    def __init__(
        self,
        progress: Progress,
        metric: str,
        patience: int,
        period: int,
        save: Callable[[str], None],
    ) -> None:
        """Args: see CRACK.BEST_METRIC, CRACK.PATIENCE, TEST.EVAL_PERIOD; save: takes a name."""
        self.progress = progress
        self.metric = metric
        self.patience = patience
        self.period = period
        self.save = save

    def after_step(self) -> None:
        """Compare after each evaluation during training."""
        done = self.trainer.iter + 1
        if self.period <= 0 or done % self.period or done == self.trainer.max_iter:
            return
        self._compare()
        # Only the main process has the metrics.
        if self.patience and comm.all_gather(self.progress.without_gain)[0] >= self.patience:
            logger.info(f"Stopped: no better {self.metric} in {self.patience} evaluations")
            raise StopTraining

    def after_train(self) -> None:
        """Compare after the last evaluation."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._compare()

    def _compare(self) -> None:
        if not comm.is_main_process():
            return
        known = self.trainer.storage.latest().get(self.metric)
        if known is None or math.isnan(known[0]):
            logger.warning(f"{self.metric} is not among the metrics: no best weights are kept")
        elif self.progress.best is None or known[0] > self.progress.best:
            self.progress.best, self.progress.best_iteration = float(known[0]), known[1]
            self.progress.without_gain = 0
            logger.info(f"Best {self.metric} so far: {self.progress.best:.4f}")
            self.save("model_best")
        else:
            self.progress.without_gain += 1

    def state_dict(self) -> dict[str, Any]:
        """For --resume."""
        return asdict(self.progress)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, value in state.items():
            setattr(self.progress, name, value)


class SaveCheckpoints(HookBase):
    """Saves everything --resume needs: periodically, and after the last iteration.

    Comes after the evaluation, so that a resumed run knows its outcome. The previous file stays.
    """

    def __init__(self, checkpointer: CrackCheckpointer, period: int) -> None:
        self.checkpointer = checkpointer
        self.period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self.checkpointer.save(f"model_{self.trainer.iter:07d}")
            remove_older(self.checkpointer.save_dir, self.trainer.iter)


class WriteReport(HookBase):
    """Writes curves.png and summary.md after a training, also of one that ended in an error.

    Comes after the writers, whose metrics.json it reads.
    """

    def __init__(self, monitor: BatchMonitor, progress: Progress) -> None:
        self.monitor = monitor
        self.progress = progress

    def after_train(self) -> None:
        trainer = self.trainer
        cfg, folder = trainer.cfg, trainer.cfg.OUTPUT_DIR
        rows = read_metrics(os.path.join(folder, "metrics.json"))
        if not rows:
            return
        outcome = {
            "iterations": min(trainer.iter + 1, trainer.max_iter),
            "photos": self.monitor.photos,
            "parameters": sum(x.numel() for x in trainer.plain_model.parameters()),
            "bad": self.monitor.bad,
            "best_iteration": self.progress.best_iteration,
            "ended_early": trainer.iter < trainer.max_iter,
        }
        draw_curves(rows, cfg.CRACK.BEST_METRIC, os.path.join(folder, "curves.png"))
        write_summary(cfg, rows, outcome, os.path.join(folder, "summary.md"))
