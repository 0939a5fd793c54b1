from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from crack_data.errors import CrackError
from crack_data.weights import load_weights


@pytest.fixture(scope="module")
def tiny_cfg(
    tiny_crack_config: Callable[[], CfgNode], tmp_path_factory: pytest.TempPathFactory
) -> CfgNode:
    """A small untrained model, saved as a checkpoint."""
    cfg = tiny_crack_config()
    cfg.MODEL.MOBILENETV2.WIDTH_MULT = 0.25
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"model": build_model(cfg).state_dict()}, path)
    cfg.MODEL.WEIGHTS = str(path)
    return cfg


class Attack:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_every_weight_is_loaded(tiny_cfg: CfgNode) -> None:
    saved = torch.load(tiny_cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    torch.manual_seed(1)
    model = build_model(tiny_cfg)
    load_weights(model, tiny_cfg.MODEL.WEIGHTS)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, saved[name]), name


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_pickles_are_not_executed(tiny_cfg: CfgNode, tmp_path: Path, suffix: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / f"evil{suffix}"
    model = build_model(tiny_cfg)
    if suffix == ".pth":
        torch.save({"model": model.state_dict(), "extra": Attack(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"model": {}, "extra": Attack(mark)}))
    with pytest.raises(CrackError, match="evil"):
        load_weights(model, str(path))
    assert not mark.exists()


def test_another_architecture_is_named(
    tiny_cfg: CfgNode, tiny_stock_config: Callable[[], CfgNode]
) -> None:
    with pytest.raises(CrackError, match=r"tiny\.pth is of another model: it lacks \d+"):
        load_weights(build_model(tiny_stock_config()), tiny_cfg.MODEL.WEIGHTS)


def test_another_number_of_classes_is_named(tiny_cfg: CfgNode) -> None:
    cfg = tiny_cfg.clone()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    with pytest.raises(CrackError, match=r"cls_score.* is \(2, 32\) in it and \(4, 32\) in the"):
        load_weights(build_model(cfg), tiny_cfg.MODEL.WEIGHTS)


def test_weights_that_the_model_lacks_are_named(tiny_cfg: CfgNode, tmp_path: Path) -> None:
    model = build_model(tiny_cfg)
    path = tmp_path / "more.pth"
    torch.save({"model": {**model.state_dict(), "extra.weight": torch.zeros(1)}}, path)
    with pytest.raises(CrackError, match=r"1 weights that the model lacks \(extra\.weight"):
        load_weights(model, str(path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tiny_cfg: CfgNode, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(CrackError, match=r"damaged\.pth"):
        load_weights(build_model(tiny_cfg), str(path))


def test_a_missing_file_is_named(tiny_cfg: CfgNode, tmp_path: Path) -> None:
    with pytest.raises(CrackError, match=r"absent\.pth does not exist"):
        load_weights(build_model(tiny_cfg), str(tmp_path / "absent.pth"))
