"""The hooks of a training, in the order in which they run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from detectron2.engine import hooks
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from ..weights import bottom_up
from .folding import fold_norm
from .hooks import KeepBest, SaveCheckpoints, Speed, UpdateAverage
from .norm import FixedNormStatistics, ReestimateNorm
from .report import WriteReport

if TYPE_CHECKING:
    from .trainer import CrackTrainer


def build_crack_hooks(trainer: CrackTrainer) -> list[HookBase]:
    """Timing, weights and evaluation."""
    return [*_step_hooks(trainer), *_evaluation_hooks(trainer)]


def build_reporting_hooks(trainer: CrackTrainer) -> list[HookBase]:
    """What writes into OUTPUT_DIR, in the main process."""
    if not comm.is_main_process():
        return []
    # Writers know the latest value of a metric only, so they write at every evaluation; and before
    # each checkpoint, because what is not written then is not written after a resumption either.
    saving, evaluation = trainer.cfg.SOLVER.CHECKPOINT_PERIOD, trainer.cfg.TEST.EVAL_PERIOD
    return [
        hooks.PeriodicWriter(trainer.build_writers(), period=math.gcd(20, saving, evaluation)),
        SaveCheckpoints(trainer.checkpointer, saving),
        WriteReport(),
    ]


def _step_hooks(trainer: CrackTrainer) -> list[HookBase]:
    cfg, model = trainer.cfg, trainer.plain_model
    found: list[HookBase] = [hooks.IterationTimer(), Speed(cfg.SOLVER.IMS_PER_BATCH)]
    if cfg.CRACK.FREEZE_BN_STATS:
        fold_norm(bottom_up(model))
        averages = [] if trainer.average is None else [trainer.average.module]
        found.append(FixedNormStatistics(*(bottom_up(x) for x in [model, *averages])))
    found.append(hooks.LRScheduler())
    if trainer.average is not None:
        found.append(UpdateAverage(trainer.average, model, cfg.SOLVER.ACCUMULATE))
    return found


def _evaluation_hooks(trainer: CrackTrainer) -> list[HookBase]:
    cfg, period = trainer.cfg, trainer.cfg.TEST.EVAL_PERIOD
    found: list[HookBase] = []
    if cfg.TEST.PRECISE_BN.ENABLED:
        batches = cfg.TEST.PRECISE_BN.NUM_ITER
        model, loader = trainer.shipped_model, lambda: trainer.train_loader(0)
        found.append(ReestimateNorm(period, batches, model, loader))
    if cfg.DATASETS.TEST:
        metric, patience = cfg.CRACK.BEST_METRIC, cfg.CRACK.PATIENCE
        found.append(hooks.EvalHook(period, trainer.evaluate))
        found.append(KeepBest(trainer.progress, metric, patience, period, trainer.save_weights))
    return found
