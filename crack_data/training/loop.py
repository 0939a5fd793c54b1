"""One iteration, what its batch says of its photos, and what happens between the iterations."""

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, create_ddp_model
from detectron2.engine import hooks as stock
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn
from torch.optim import Optimizer

from ..errors import CrackError
from ..modeling.compiled import choose_precision
from ..storage import printable, write_bytes
from ..weights import bottom_up
from .checkpoints import remove_older
from .data import Batch
from .report import write_report

logger = logging.getLogger("detectron2.crack_data.training")


def build_stepper(cfg: CfgNode, model: nn.Module) -> SimpleTrainer:
    """What computes an iteration, with model (shared among all processes) and optimizer."""
    solver, on_cpu = cfg.SOLVER, cfg.MODEL.DEVICE == "cpu"
    periods = (solver.MAX_ITER, solver.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD)
    if math.gcd(*periods) % solver.ACCUMULATE:
        raise CrackError(
            "SOLVER.MAX_ITER, SOLVER.CHECKPOINT_PERIOD and TEST.EVAL_PERIOD must be multiples of "
            f"SOLVER.ACCUMULATE ({solver.ACCUMULATE}), but are {', '.join(map(str, periods))}"
        )
    optimizer = build_crack_optimizer(cfg, model)
    ids: dict[str, Any] = {"device_ids": None} if on_cpu else {}
    model = create_ddp_model(model, broadcast_buffers=False, **ids)
    if on_cpu or not solver.AMP.ENABLED:
        bf16 = solver.CPU_BF16 and on_cpu and choose_precision("auto") == "bf16"
        logger.info(f"Training computes in {'bf16' if bf16 else 'fp32'}")
        return CrackStepper(model, optimizer, bf16, solver.ACCUMULATE)
    if solver.ACCUMULATE > 1:
        raise CrackError("SOLVER.ACCUMULATE above 1 does not go with SOLVER.AMP.ENABLED")
    return AMPTrainer(model, (), optimizer)


def build_crack_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Detectron2's parameter groups and gradient clipping around SGD or AdamW."""
    solver = cfg.SOLVER

    def factor_of(name: str) -> float:  # of both kinds: Detectron2's own for biases overrides this
        of_backbone = name.startswith("backbone.bottom_up.")
        of_bias = solver.BIAS_LR_FACTOR if name.endswith(".bias") else 1.0
        return of_bias * (solver.BACKBONE_LR_FACTOR if of_backbone else 1.0)

    parameters = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=factor_of,
    )
    kind: Any = torch.optim.SGD
    options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    if solver.OPTIMIZER == "adamw":
        # A fused optimizer takes AMP's scaled gradients, which clipping must not see.
        kind, options = torch.optim.AdamW, {"fused": not solver.AMP.ENABLED}
    clipping = maybe_add_gradient_clipping(cfg, kind)
    return clipping(parameters, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, **options)


class CrackStepper(SimpleTrainer):
    """Detectron2's `SimpleTrainer` with autocast, accumulation and a check before each update."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, bf16: bool, accumulate: int) -> None:
        super().__init__(model, (), optimizer)
        self.bf16 = bf16
        self.accumulate = accumulate  # iterations that one optimizer step takes

    def run_step(self) -> None:
        """Compute one batch's gradients, and take a step where it is due."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.iter % self.accumulate == 0:
            self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            losses = self.model(batch)
        SimpleTrainer.write_metrics(losses, data_time, self.iter)
        total = sum(losses.values())
        if not torch.isfinite(total):  # before it reaches the weights
            raise FloatingPointError(f"a loss is not finite: {losses}")
        (total / self.accumulate).backward()
        if (self.iter + 1) % self.accumulate == 0:
            self.optimizer.step()


class BatchMonitor:
    """Counts unreadable photos and remembers the last batch's, those of all processes together."""

    def __init__(self, max_bad_share: float) -> None:
        self.photos = 0  # in the training set
        self.max_bad_share = max_bad_share
        self.bad: dict[str, str] = {}  # the unreadable ones so far, file name to reason
        self.last: list[dict[str, str]] = []  # image_id and so on of the last batch's photos

    def __call__(self, batch: Batch) -> Batch:
        """Note what the batch says and return its readable samples; a `CrackError` if too few."""
        readable = [sample for sample in batch if "image" in sample]
        keys = ("image_id", "file_name", "dataset_name")
        shown = [{key: str(sample[key]) for key in keys} for sample in readable]
        parts = comm.all_gather(([x for sample in batch for x in sample["skipped"]], shown))
        self.last = [photo for _, part in parts for photo in part]
        for name, reason in (map(printable, x) for part, _ in parts for x in part):
            if name not in self.bad:
                self.bad[name] = reason
                logger.warning(f"skipped photo {name}: {reason} ({len(self.bad)} so far)")
        if not readable or len(self.bad) > self.max_bad_share * self.photos:
            raise CrackError(
                f"{len(self.bad)} of {self.photos} photos cannot be read, the first: "
                f"{next(iter(self.bad))}; mend or remove them, or allow more with "
                f"CRACK.MAX_BAD_PHOTOS (now {self.max_bad_share})"
            )
        return readable

    def report(self, path: Path, iteration: int, losses: str) -> CrackError:
        """Write the photos of a batch whose loss is not finite; return what to raise."""
        content = {"iteration": iteration, "losses": losses, "photos": self.last}
        write_bytes(path, json.dumps(content, indent=1).encode())
        return CrackError(
            f"the loss became infinite or NaN at iteration {iteration}; {path} names the photos of "
            "that batch; look at them or lower SOLVER.BASE_LR, then go on with --resume"
        )


def build_hooks(trainer: Any) -> list[HookBase]:
    """What every process of a `CrackTrainer` does: evaluation, time, rates, average of weights."""
    cfg = trainer.cfg
    # The timer takes what comes after it for the iteration.
    found = [trainer.best, stock.IterationTimer(), stock.CallbackHook(after_step=_put_speed)]
    if cfg.CRACK.FREEZE_BN_STATS:
        found.append(stock.CallbackHook(before_step=_fix_statistics))
    found.append(stock.LRScheduler())
    if trainer.average is not None:
        found.append(stock.CallbackHook(after_step=_update_average))
    return found


def build_reporting_hooks(trainer: Any) -> list[HookBase]:
    """What the main process does beside: write metrics, checkpoints, and in the end the report."""
    cfg, writers = trainer.cfg, trainer.build_writers()
    # Before each checkpoint: what is not written then is not written after a resumption either.
    period = math.gcd(20, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD)

    def write_evaluation(trainer: Any) -> None:  # later, it would stand behind later iterations
        if trainer.evaluates(trainer.iter) and (trainer.iter + 1) % period:
            for writer in writers:
                writer.write()

    return [
        stock.PeriodicWriter(writers, period=period),
        stock.CallbackHook(after_step=write_evaluation),
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
    """Save all that --resume needs: periodically, before each evaluation, and in the end."""
    done, period = trainer.iter + 1, trainer.cfg.SOLVER.CHECKPOINT_PERIOD
    if done % period == 0 or done == trainer.max_iter or trainer.evaluates(done):
        trainer.checkpointer.save(f"model_{trainer.iter:07d}")
        remove_older(trainer.cfg.OUTPUT_DIR, trainer.iter)


class KeepBest(HookBase):
    """Evaluates, saves the weights that were best at it, and ends a training without gain."""

    def __init__(self) -> None:
        self.best: float | None = None  # highest value of the metric so far
        self.best_iteration = -1
        self.without_gain = 0  # evaluations since

    def before_step(self) -> None:
        """Evaluate, where it is due, what the iterations so far have made."""
        if self.trainer.evaluates(self.trainer.iter):
            self.update(self.trainer.evaluate())

    def update(self, results: Mapping[str, Any]) -> None:
        """Compare an evaluation with the best so far; only the main process has its results."""
        trainer, keys = self.trainer, self.trainer.cfg.CRACK
        metric = keys.BEST_METRIC
        value = flatten_results_dict(results).get(metric, math.nan)
        if math.isnan(value):  # as average precision is on a set without cracks
            if comm.is_main_process():
                logger.warning(f"{metric} is not among the metrics: no best weights are kept")
        elif self.best is None or value > self.best:
            self.best, self.best_iteration, self.without_gain = value, trainer.storage.iter, 0
            logger.info(f"Best {metric} so far: {value:.4f}")
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
