"""What happens between the iterations."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from detectron2.engine import HookBase
from detectron2.engine import hooks as stock
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

from ..weights import bottom_up
from .checkpoints import remove_older
from .report import write_report

logger = logging.getLogger("detectron2.crack_data.training")


def build_hooks(trainer: Any) -> list[HookBase]:
    """What every process of a `CrackTrainer` does: time, rates, average of weights, evaluation."""
    cfg, period = trainer.cfg, trainer.cfg.TEST.EVAL_PERIOD
    found = [stock.IterationTimer(), stock.CallbackHook(after_step=_put_speed)]
    if cfg.CRACK.FREEZE_BN_STATS:
        found.append(stock.CallbackHook(before_step=_fix_statistics))
    found.append(stock.LRScheduler())
    if trainer.average is not None:
        found.append(stock.CallbackHook(after_step=_update_average))
    if cfg.DATASETS.TEST:
        found += [stock.EvalHook(period, trainer.evaluate), trainer.best]
    return found


def build_reporting_hooks(trainer: Any) -> list[HookBase]:
    """What the main process does beside: write metrics, checkpoints, and in the end the report.

    Writers know the latest value of a metric only, so they write at every evaluation; and before
    each checkpoint, because what is not written then is not written after a resumption either.
    """
    cfg = trainer.cfg
    period = math.gcd(20, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD)
    return [
        stock.PeriodicWriter(trainer.build_writers(), period=period),
        stock.CallbackHook(after_step=_save_checkpoint, after_train=write_report),
    ]


def _put_speed(trainer: Any) -> None:
    """Photos per second; Detectron2's printer shows what is marked as a metric."""
    latest = trainer.storage.latest().get("time")
    if latest is not None and latest[1] == trainer.iter:
        speed = trainer.cfg.SOLVER.IMS_PER_BATCH / latest[0]
        trainer.storage.put_scalar("[metric]img_per_s", speed)


def _fix_statistics(trainer: Any) -> None:
    """Keep the backbone's BatchNorm statistics as they are, also after an evaluation's end."""
    models = [trainer.plain_model, *([trainer.average.module] if trainer.average else [])]
    for layer in (layer for model in models for layer in bottom_up(model).modules()):
        if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
            layer.eval()


def _update_average(trainer: Any) -> None:
    if (trainer.iter + 1) % trainer.cfg.SOLVER.ACCUMULATE == 0:
        trainer.average.update_parameters(trainer.plain_model)


def _save_checkpoint(trainer: Any) -> None:
    """Save all that --resume needs: periodically, after the evaluation, and in the end."""
    done = trainer.iter + 1
    if done % trainer.cfg.SOLVER.CHECKPOINT_PERIOD == 0 or done == trainer.max_iter:
        trainer.checkpointer.save(f"model_{trainer.iter:07d}")
        remove_older(trainer.cfg.OUTPUT_DIR, trainer.iter)


class KeepBest(HookBase):
    """Saves the weights that were best on the evaluation data, and ends a training without gain.

    See CRACK.BEST_METRIC and CRACK.PATIENCE.
    """

    def __init__(self) -> None:
        self.best: float | None = None  # highest value of the metric so far
        self.best_iteration = -1
        self.without_gain = 0  # evaluations since

    def update(self, results: Mapping[str, Any]) -> None:
        """Compare an evaluation with the best so far; only the main process has its results."""
        trainer, keys = self.trainer, self.trainer.cfg.CRACK
        value = flatten_results_dict(results).get(keys.BEST_METRIC, math.nan)
        if math.isnan(value):  # as average precision is on a set without cracks
            if comm.is_main_process():
                logger.warning(
                    f"{keys.BEST_METRIC} is not among the metrics: no best weights are kept"
                )
        elif self.best is None or value > self.best:
            self.best, self.best_iteration, self.without_gain = value, trainer.storage.iter, 0
            logger.info(f"Best {keys.BEST_METRIC} so far: {value:.4f}")
            trainer.save_weights("model_best")
        else:
            self.without_gain += 1
        trainer.ended = 0 < keys.PATIENCE <= comm.all_gather(self.without_gain)[0]

    def state_dict(self) -> dict[str, Any]:
        """For --resume."""
        return {name: getattr(self, name) for name in ("best", "best_iteration", "without_gain")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.__dict__.update(state)
