"""Checkpoints: complete or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from crack_data.training.checkpointing import CrackCheckpointer, remove_older


def test_round_trip(tmp_path: Path) -> None:
    model = nn.Linear(3, 3)
    checkpointer = CrackCheckpointer(model, str(tmp_path), head=nn.Linear(1, 1))
    checkpointer.save("model_0000004", note=4)
    state = torch.load(checkpointer.get_checkpoint_file(), weights_only=True)
    assert state["model"].keys() == model.state_dict().keys()
    assert set(state) == {"model", "head", "note"}
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000004.pth"]


# A limit on the size of files stands in for the full disk: the write itself fails, half-way.
_FULL_DISK = """
import resource, sys, torch
from crack_data.errors import run_tool
from crack_data.training.checkpointing import CrackCheckpointer

def main():
    checkpointer = CrackCheckpointer(torch.nn.Linear(10, 10), sys.argv[1])
    checkpointer.save("model_0000001")
    checkpointer.model = torch.nn.Linear(1000, 1000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    checkpointer.save("model_0000002")

run_tool(main)
"""


def test_a_full_disk_leaves_the_previous_checkpoint(repo: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)],
        cwd=repo, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: checkpoint ")
    assert "model_0000002.pth cannot be written" in last
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    torch.load(tmp_path / "model_0000001.pth", weights_only=True)


@pytest.mark.parametrize(
    ("iteration", "left"), [(30, [20, 30, 99]), (10, [10, 20, 30, 99]), (99, [30, 99])]
)
def test_only_the_last_but_one_is_kept(tmp_path: Path, iteration: int, left: list[int]) -> None:
    """Later files belong to a longer run in the same folder and are not ours to remove."""
    for number in (10, 20, 30, 99):
        (tmp_path / f"model_{number:07d}.pth").touch()
    (tmp_path / "model_best.pth").touch()
    remove_older(str(tmp_path), iteration)
    names = {f"model_{number:07d}.pth" for number in left} | {"model_best.pth"}
    assert set(os.listdir(tmp_path)) == names
