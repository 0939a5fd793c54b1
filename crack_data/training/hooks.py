"""What happens between the iterations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .checkpointing import CrackCheckpointer, remove_old

logger = logging.getLogger("detectron2.crack_data.training")


class StopTraining(BaseException):
    """Ends the training loop early, in good order; no error, so nothing may catch it as one."""


class FixedNormStatistics(HookBase):
    """Keeps the running statistics of these modules' BatchNorm layers as they are."""

    def __init__(self, pretrained: nn.Module) -> None:
        self.layers = [
            module
            for module in pretrained.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        ]

    def before_step(self) -> None:
        """Undo what ``model.train()`` does to them after an evaluation."""
        for layer in self.layers:
            layer.eval()


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
    """Writes photos per second into the metrics, and with the other numbers into the log."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def after_step(self) -> None:
        latest = self.trainer.storage.latest().get("time")
        if latest is not None and latest[0] > 0:
            self.trainer.storage.put_scalar("img_per_s", self.batch_size / latest[0])


class KeepBest(HookBase):
    """Saves the weights that were best on the evaluation data, and ends a training without gain."""

    def __init__(
        self, metric: str, patience: int, period: int, save: Callable[[str], None]
    ) -> None:
        """Args: see CRACK.BEST_METRIC, CRACK.PATIENCE, TEST.EVAL_PERIOD; save: takes a name."""
        self.metric = metric
        self.patience = patience
        self.period = period
        self.save = save
        self.best: float | None = None
        self.best_iteration = -1
        self.without_gain = 0

    def after_step(self) -> None:
        """Compare after each evaluation during training."""
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0 and done < self.trainer.max_iter:
            self._compare()
            if self.patience and comm.all_gather(self.without_gain)[0] >= self.patience:
                logger.info(f"Stopped: no better {self.metric} in {self.patience} evaluations")
                raise StopTraining

    def after_train(self) -> None:
        """Compare after the last evaluation."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._compare()

    def _compare(self) -> None:
        known = self.trainer.storage.latest().get(self.metric)
        if known is not None and not math.isnan(known[0]):
            self._judge(float(known[0]))
        elif comm.is_main_process():
            logger.warning(f"{self.metric} is not among the metrics: no best checkpoint is kept")

    def _judge(self, value: float) -> None:
        if self.best is not None and value <= self.best:
            self.without_gain += 1
            return
        self.best, self.best_iteration, self.without_gain = value, self.trainer.iter, 0
        logger.info(f"Best {self.metric} so far: {value:.4f}")
        self.save("model_best")

    def state_dict(self) -> dict[str, Any]:
        """For --resume."""
        return {
            "best": self.best,
            "best_iteration": self.best_iteration,
            "without_gain": self.without_gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.best = state["best"]
        self.best_iteration = state["best_iteration"]
        self.without_gain = state["without_gain"]


class SaveCheckpoints(HookBase):
    """Saves everything --resume needs: periodically, and after the last iteration.

    Comes after the evaluation, so that a resumed run knows its outcome; and keeps two files, so
    that one survives whatever happens to the other.
    """

    def __init__(self, checkpointer: CrackCheckpointer, period: int) -> None:
        self.checkpointer = checkpointer
        self.period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self.checkpointer.save(f"model_{self.trainer.iter:07d}")
            remove_old(self.checkpointer.save_dir, keep=2)
