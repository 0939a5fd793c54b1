"""A run that is killed and resumed ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode

from crack_data.errors import CrackError
from crack_data.modeling import MobileNetV2
from crack_data.training.report import read_metrics, series
from crack_data.training.trainer import CrackTrainer

LONG = 20


def _train(cfg: CfgNode, resume: bool) -> CrackTrainer:
    trainer = CrackTrainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def _evaluated(cfg: CfgNode) -> list[int]:
    return list(series(read_metrics(Path(cfg.OUTPUT_DIR, "metrics.json")), "crack/f1"))


def test_an_extension_keeps_the_best(make_config: Callable[..., CfgNode]) -> None:
    # So slow that no evaluation is better than the first.
    keys = ["SOLVER.BASE_LR", 1e-12, "SOLVER.MAX_ITER"]
    _train(make_config(*keys, 3), resume=False)
    cfg = make_config(*keys, 5)
    trainer = _train(cfg, resume=True)
    assert (trainer.best.best_iteration, trainer.best.without_gain) == (3, 1)
    assert _evaluated(cfg) == [3, 5]
    best = torch.load(Path(cfg.OUTPUT_DIR, "model_best.pth"), weights_only=True)
    assert best["iteration"] == 3
    assert "from iteration 3" in Path(cfg.OUTPUT_DIR, "summary.md").read_text()


def test_an_evaluation_that_fails_costs_no_iteration(
    make_config: Callable[..., CfgNode], data: Path
) -> None:
    keys = ["SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 4, "TEST.EVAL_PERIOD"]
    cfg, photo = make_config(*keys, 1), data / "val_02.png"
    content = photo.read_bytes()
    photo.write_bytes(content[:99])
    with pytest.raises(CrackError, match=r"val_02\.png"):
        _train(cfg, resume=False)
    assert Path(cfg.OUTPUT_DIR, "last_checkpoint").read_text() == "model_0000000.pth"
    photo.write_bytes(content)
    _train(make_config(*keys, 3), resume=True)
    assert _evaluated(cfg) == [1, 3, 4]


def _command(repo: Path, small: list[str], output: Path, *more: str) -> list[str]:
    config = str(repo / "configs" / "crack_mobilenet.yaml")
    tool = str(repo / "tools" / "train_net.py")
    overrides = [*small, "OUTPUT_DIR", str(output), "SOLVER.MAX_ITER", str(LONG)]
    # The evaluation, its outcome and the accumulation are part of what must be the same.
    overrides += ["SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "6"]
    overrides += ["SOLVER.ACCUMULATE", "2", "DATALOADER.NUM_WORKERS", "2"]
    # As shipped: pretrained statistics frozen, bf16 where there is such a thing.
    overrides += ["MODEL.BACKBONE.WEIGHTS", str(output.parent / "backbone.pth")]
    overrides += ["CRACK.FREEZE_BN_STATS", "True", "SOLVER.CPU_BF16", "True"]
    return [sys.executable, tool, "--config-file", config, *more, *overrides]


# One thread: the cores may be shared, and equal results need equal sums.
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def _run(command: list[str], repo: Path) -> None:
    done = subprocess.run(
        command, cwd=repo, capture_output=True, text=True, check=False, env=_ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def _kill_after(command: list[str], repo: Path, path: Path) -> None:
    """Start a training, and kill it as soon as a file is there."""
    with subprocess.Popen(
        command, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, env=_ENVIRONMENT,
    ) as process:  # fmt: skip
        while not path.exists():
            assert process.poll() is None, "the training ended before it could be killed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.slow
def test_kill_and_resume_is_exact(repo: Path, small: list[str], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    torch.save(MobileNetV2(0.25, "BN", ["res5"], 0).state_dict(), tmp_path / "backbone.pth")
    _run(_command(repo, small, whole), repo)
    _kill_after(_command(repo, small, cut), repo, cut / "model_0000005.pth")
    _kill_after(_command(repo, small, cut, "--resume"), repo, cut / "model_0000013.pth")
    assert not (cut / "model_final.pth").exists()
    _run(_command(repo, small, cut, "--resume"), repo)

    last = f"model_{LONG - 1:07d}.pth"
    one, other = (torch.load(folder / last, weights_only=True) for folder in (whole, cut))
    assert _differences(one["model"], other["model"]) == []
    assert _differences(one["ema"], other["ema"]) == []
    assert one["trainer"]["hooks"] == other["trainer"]["hooks"]
    assert one["trainer"]["samples"] == other["trainer"]["samples"] == 2 * LONG
    final, again = (torch.load(x / "model_final.pth", weights_only=True) for x in (whole, cut))
    assert _differences(final["model"], again["model"]) == []
    assert _differences(final["model"], one["model"]) != []  # shipped is the average

    rows = [json.loads(line) for line in (cut / "metrics.json").read_text().splitlines()]
    iterations = [row["iteration"] for row in rows]
    assert iterations == sorted(iterations)
    assert (cut / "curves.png").exists()
    assert (cut / "summary.md").exists()
