"""Trainers are timed in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from detectron2.config import CfgNode, get_cfg

from benchmarks.backbones.training import TimedTrainer
from crack_data.errors import CrackError

pytestmark = pytest.mark.usefixtures("unmeasured")


def _sleepy(cfg: CfgNode) -> Callable[[], None]:
    assert os.getppid() == cfg.SEED
    return lambda: time.sleep(0.02)


def _broken(cfg: CfgNode) -> Callable[[], None]:
    raise ValueError("no trainer")


def _config() -> CfgNode:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.SEED = os.getpid()
    return cfg


def test_a_step_is_timed_in_another_process() -> None:
    trainer = TimedTrainer(_sleepy, _config())
    assert trainer.step() >= 20
    trainer.stop()
    assert trainer.process.exitcode == 0


def test_a_trainer_that_fails_is_a_sentence() -> None:
    trainer = TimedTrainer(_broken, _config())
    with pytest.raises(CrackError, match="trainer ended"):
        trainer.step()
    trainer.stop()
