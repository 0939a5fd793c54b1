"""What happens between the iterations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..errors import CrackError
from .checkpointing import CrackCheckpointer, remove_older

logger = logging.getLogger("detectron2.crack_data.training")


class StopTraining(BaseException):
    """Leaves the training loop in good order, with an error to report or without.

    No Exception: of those Detectron2's loop logs a traceback, which bad input does not deserve.
    """

    def __init__(self, error: CrackError | None = None) -> None:
        self.error = error


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
