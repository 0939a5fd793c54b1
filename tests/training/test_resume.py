"""A run that is killed and resumed ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from crack_data.modeling import MobileNetV2

LONG = 20


def _command(repo: Path, small: list[str], output: Path, *more: str) -> list[str]:
    config = str(repo / "configs" / "crack_mobilenet.yaml")
    tool = str(repo / "tools" / "train_net.py")
    overrides = [*small, "OUTPUT_DIR", str(output), "SOLVER.MAX_ITER", str(LONG)]
    # The evaluation, its outcome and the accumulation are part of what must be the same.
    overrides += ["SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "5"]
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
    torch.save(MobileNetV2(width_mult=0.25).state_dict(), tmp_path / "backbone.pth")
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
