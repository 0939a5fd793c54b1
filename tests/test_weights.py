from __future__ import annotations

import codecs
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from crack_data.errors import CrackError
from crack_data.weights import load_initial_weights, load_weights, read_checkpoint


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


@pytest.fixture(scope="module")
def tiny_model(tiny_cfg: CfgNode) -> nn.Module:
    """A model of that config, to load weights into."""
    return build_model(tiny_cfg)


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
def test_pickles_are_not_executed(tiny_model: nn.Module, tmp_path: Path, suffix: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / f"evil{suffix}"
    if suffix == ".pth":
        torch.save({"model": tiny_model.state_dict(), "extra": Attack(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"model": {}, "extra": Attack(mark)}))
    with pytest.raises(CrackError, match="evil"):
        load_weights(tiny_model, str(path))
    assert not mark.exists()


def test_another_architecture_is_named(
    tiny_cfg: CfgNode, tiny_stock_config: Callable[[], CfgNode]
) -> None:
    with pytest.raises(CrackError, match=r"tiny\.pth is of another model: .* lacks [1-9]"):
        load_weights(build_model(tiny_stock_config()), tiny_cfg.MODEL.WEIGHTS)


def test_another_number_of_classes_is_named(tiny_cfg: CfgNode) -> None:
    cfg = tiny_cfg.clone()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    with pytest.raises(CrackError, match=r"lacks 0, \d have another shape.*cls_score"):
        load_weights(build_model(cfg), tiny_cfg.MODEL.WEIGHTS)


def test_weights_that_the_model_lacks_are_named(tiny_model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "more.pth"
    torch.save({"model": {**tiny_model.state_dict(), "extra.weight": torch.zeros(1)}}, path)
    with pytest.raises(CrackError, match=r"1 are unknown \(extra\.weight"):
        load_weights(tiny_model, str(path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(CrackError, match=r"damaged\.pth"):
        read_checkpoint(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CrackError, match=r"absent\.pth does not exist"):
        read_checkpoint(str(tmp_path / "absent.pth"))


def test_the_suffix_decides_nothing(
    tiny_cfg: CfgNode, tiny_model: nn.Module, tmp_path: Path
) -> None:
    mark = tmp_path / "executed"
    evil, good = tmp_path / "q.pkl", tmp_path / "q.pkl?x.pth"
    evil.write_bytes(pickle.dumps({"model": {}, "extra": Attack(mark)}))
    with pytest.raises(CrackError, match=r"q\.pkl\?x\.pth does not exist"):
        load_weights(tiny_model, str(good))
    good.write_bytes(Path(tiny_cfg.MODEL.WEIGHTS).read_bytes())
    load_weights(tiny_model, str(good))
    cfg = tiny_cfg.clone()
    cfg.MODEL.WEIGHTS = str(evil)
    with pytest.raises(CrackError, match=r"q\.pkl holds more than tensors"):
        load_initial_weights(cfg, tiny_model)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_overwritten_bytes_are_noticed(tiny_cfg: CfgNode, tmp_path: Path, share: float) -> None:
    data = bytearray(Path(tiny_cfg.MODEL.WEIGHTS).read_bytes())
    start = int(share * len(data))
    data[start : start + 4000] = bytes(4000)
    path = tmp_path / "damaged.pth"
    path.write_bytes(data)
    with pytest.raises(CrackError, match=r"damaged\.pth"):
        read_checkpoint(str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["model", "optimizer"])
def test_values_that_are_not_finite_are_refused(
    tiny_cfg: CfgNode, tmp_path: Path, value: float, place: str
) -> None:
    content = torch.load(tiny_cfg.MODEL.WEIGHTS, weights_only=True)
    spoilt = torch.tensor([1.0, value])
    if place == "model":
        content["model"]["backbone.extra"] = spoilt
    else:
        content["optimizer"] = {"state": {0: {"momentum": [spoilt]}}}
    path = tmp_path / "spoilt.pth"
    torch.save(content, path)
    with pytest.raises(CrackError, match=rf"spoilt\.pth .*values in {place}.* not finite"):
        read_checkpoint(str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": {7: torch.zeros(1)}}, "no model weights"),
        ({"model": {"a": 1.0}}, "no model weights"),
        ([], "damaged, or none"),
    ],
    ids=["number as name", "no tensor", "list"],
)
def test_odd_content_is_one_sentence(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(CrackError, match=rf"odd\.pth .*{reason}"):
        read_checkpoint(str(path))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", None])
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_however_they_are_wrapped(
    tiny_model: nn.Module, tmp_path: Path, wrapper: str | None, legacy: bool
) -> None:
    state = {name: x + 1 for name, x in tiny_model.state_dict().items()}
    parallel = {f"module.{name}": weight for name, weight in state.items()}
    path = tmp_path / "parallel.pth"
    torch.save(
        {wrapper: parallel} if wrapper else parallel,
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    load_weights(tiny_model, str(path))
    assert all(torch.equal(x, state[name]) for name, x in tiny_model.state_dict().items())


def test_pickles_of_the_model_zoo_are_read(
    tiny_stock_config: Callable[[], CfgNode], tmp_path: Path
) -> None:
    cfg = tiny_stock_config()
    model = build_model(cfg)
    state = {name: x + 1 for name, x in model.state_dict().items()}
    zoo = {
        "model": {name: weight.numpy() for name, weight in state.items()},
        "__author__": "Detectron2 Model Zoo",
        "matching_heuristics": True,
    }
    path = tmp_path / "model_final.pkl"
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps(zoo, protocol))
        read = read_checkpoint(str(path))["model"]
        assert all(torch.equal(read[name], x) for name, x in state.items())
    cfg.MODEL.WEIGHTS = str(path)
    load_initial_weights(cfg, model)
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


class Encoded:
    def __reduce__(self) -> tuple[Callable, tuple[str, str]]:
        return codecs.encode, ("abc", "rot13")


def test_a_pickle_runs_no_codec_of_its_choice(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pkl"
    zoo = {"model": {"a": np.zeros(1)}, "__author__": "anybody", "note": Encoded()}
    path.write_bytes(pickle.dumps(zoo, 2))
    assert read_checkpoint(str(path))["note"] == b"abc"


@pytest.mark.parametrize(
    "content", [{"model": {"a": np.array([1, "x"], object)}}, {"blobs": {}}, [1, 2], "text"]
)
def test_other_pickles_hold_no_weights(tmp_path: Path, content: object) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(CrackError, match=r"other\.pkl"):
        read_checkpoint(str(path))


def test_a_url_without_a_network(tiny_cfg: CfgNode) -> None:
    with pytest.raises(CrackError, match=r"127\.0\.0\.1.* cannot be fetched"):
        read_checkpoint("http://127.0.0.1:9/weights.pth")


@pytest.mark.parametrize("path", sorted(Path("checkpoints").glob("*.pth")), ids=lambda x: x.name)
def test_shipped_checkpoints_are_whole(repo: Path, path: Path) -> None:
    assert len(read_checkpoint(str(repo / path))["model"]) > 100
    card = (repo / path).with_suffix(".md").read_text()
    assert hashlib.sha256((repo / path).read_bytes()).hexdigest() in card


def test_a_trainings_checkpoint_gives_its_averaged_weights(
    tiny_cfg: CfgNode, tiny_model: nn.Module, tmp_path: Path
) -> None:
    """They are what it evaluates; it goes on with the raw ones."""
    raw = tiny_model.state_dict()
    average = {f"module.{k}": x + 1 if x.is_floating_point() else x for k, x in raw.items()}
    name = "crack_map_head.predictor.weight"
    name = name if name in raw else next(k for k, x in raw.items() if x.dim() == 4)
    for steps, given, shift in ((5, False, 1), (5, True, 0), (0, False, 0)):
        content = {"model": raw, "ema": average | {"n_averaged": torch.tensor(steps)}}
        torch.save(content, tmp_path / "model_0000009.pth")
        model = build_model(tiny_cfg)
        load_weights(model, str(tmp_path / "model_0000009.pth"), raw=given)
        assert torch.equal(model.state_dict()[name], raw[name] + shift)
        if not given:
            cfg = tiny_cfg.clone()
            cfg.defrost()
            cfg.MODEL.WEIGHTS = str(tmp_path / "model_0000009.pth")
            model = build_model(cfg)
            load_initial_weights(cfg, model)
            assert torch.equal(model.state_dict()[name], raw[name] + shift)
