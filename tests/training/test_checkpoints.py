"""Checkpoints: complete or not there; averaged weights; what is shipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from crack_data.errors import CrackError
from crack_data.training.checkpoints import (
    CrackCheckpointer,
    build_ema,
    match_optimizer_state,
    parameter_names,
    release_weights,
    remove_older,
)


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
from crack_data.training.checkpoints import CrackCheckpointer

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
    assert last.startswith("error: cannot write ")
    assert "model_0000002.pth: File too large" in last
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


def _network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("decay", [0.2, 0.9])
def test_average(decay: float) -> None:
    model = _network()
    average = build_ema(model, decay)
    expected = None
    for step in range(5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float(step))
        average.update_parameters(model)
        # The first update copies; from the second on, step n uses (1 + n) / (10 + n) at most.
        weight = min(decay, (1 + step) / (10 + step))
        expected = float(step) if expected is None else weight * expected + (1 - weight) * step
        assert average.module[0].weight[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_buffers_follow_and_counters_are_copied() -> None:
    model = _network()
    average = build_ema(model, 0.5)
    model(torch.randn(8, 2))
    average.update_parameters(model)
    model(torch.randn(8, 2))
    before = average.module[1].running_var.clone()
    average.update_parameters(model)
    assert int(average.module[1].num_batches_tracked) == 2
    low = torch.minimum(before, model[1].running_var)
    high = torch.maximum(before, model[1].running_var)
    assert ((low <= average.module[1].running_var) & (average.module[1].running_var <= high)).all()


def test_the_average_is_taken_in_half_precision(tmp_path: Path) -> None:
    source, target = tmp_path / "model_0000009.pth", tmp_path / "crack.pth"
    average = {
        "module.w": torch.full((100, 100), 0.5),
        "module.n": torch.tensor(3),
        "n_averaged": torch.tensor(9),
    }
    average["module.large"] = torch.tensor([1e6])
    raw = {"w": torch.zeros(100, 100), "n": torch.tensor(3), "large": torch.tensor([1e6])}
    torch.save({"model": raw, "ema": average, "trainer": {"iteration": 9}}, source)
    size = release_weights([str(source)], str(target))
    assert size == target.stat().st_size < 25_000
    content = torch.load(target, weights_only=True)
    assert set(content) == {"model"}
    weights = content["model"]
    assert set(weights) == {"w", "n", "large"}
    assert weights["w"].dtype == torch.float16
    assert torch.equal(weights["w"].float(), average["module.w"])
    assert weights["n"].dtype == torch.int64
    assert weights["large"].item() == 1e6  # beyond fp16


def test_several_checkpoints_give_their_mean(tmp_path: Path) -> None:
    sources = [str(tmp_path / f"{number}.pth") for number in range(4)]
    for number, source in enumerate(sources[:3]):
        state = {"w": torch.full((2,), float(number**2)), "n": torch.tensor(7)}
        torch.save({"model": state}, source)
    torch.save({"model": {"w": torch.ones(3), "n": torch.tensor(7)}}, sources[3])
    target = tmp_path / "mean.pth"
    release_weights(sources[:3], str(target))
    weights = torch.load(target, weights_only=True)["model"]
    assert weights["w"].tolist() == pytest.approx([5 / 3] * 2, rel=1e-3)
    assert weights["n"].item() == 7
    with pytest.raises(CrackError, match=r"0\.pth and .*3\.pth are of different models"):
        release_weights([sources[0], sources[3]], str(target))


def _adamw(model: nn.Module, *groups: list[str]) -> torch.optim.AdamW:
    named = dict(model.named_parameters())
    parameters = [
        {"params": [named[name] for name in names], "weight_decay": float(number)}
        for number, names in enumerate(groups)
    ]
    return torch.optim.AdamW(parameters, lr=0.1)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for number, parameter in enumerate(model.parameters(), start=1):
        parameter.grad = torch.full_like(parameter, float(number))
    optimizer.step()


def test_moments_follow_their_parameters_into_other_groups() -> None:
    model = nn.Linear(2, 2)
    before = _adamw(model, ["weight"], ["bias"])
    _step(model, before)
    names = parameter_names(before, model)
    assert names == ["weight", "bias"]
    after = _adamw(model, ["bias", "weight"])
    state = match_optimizer_state(before.state_dict(), names, after, parameter_names(after, model))
    after.load_state_dict(state)
    for parameter in model.parameters():
        assert torch.equal(after.state[parameter]["exp_avg"], before.state[parameter]["exp_avg"])
    assert [group["weight_decay"] for group in after.param_groups] == [0.0]
    with pytest.raises(ValueError, match="other parameters"):
        match_optimizer_state(before.state_dict(), names, after, ["bias", "gain"])
