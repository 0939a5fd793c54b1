"""Weights to ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crack_data.errors import CrackError
from crack_data.training.release import release_weights


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
    size = release_weights(str(source), str(target))
    assert size == target.stat().st_size < 25_000
    content = torch.load(target, weights_only=True)
    assert set(content) == {"model"}
    weights = content["model"]
    assert set(weights) == {"w", "n", "large"}
    assert weights["w"].dtype == torch.float16
    assert torch.equal(weights["w"].float(), average["module.w"])
    assert weights["n"].dtype == torch.int64
    assert weights["large"].item() == 1e6  # beyond fp16


def test_raw_weights_where_there_is_no_average(tmp_path: Path) -> None:
    source, target = tmp_path / "model_best.pth", tmp_path / "crack.pth"
    torch.save({"model": {"w": torch.ones(2)}, "iteration": 3}, source)
    release_weights(str(source), str(target))
    assert torch.load(target, weights_only=True)["model"]["w"].tolist() == [1, 1]


@pytest.mark.parametrize("content", [None, b"text", {"weights": 1}])
def test_no_checkpoint(tmp_path: Path, content: object) -> None:
    source = tmp_path / "source.pth"
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        torch.save(content, source)
    with pytest.raises(CrackError, match=r"source\.pth is not a checkpoint"):
        release_weights(str(source), str(tmp_path / "target.pth"))
    assert not (tmp_path / "target.pth").exists()
