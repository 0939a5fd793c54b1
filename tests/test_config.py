"""Configs: each of ours loads and builds; a mistake is named in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.modeling import build_model

import crack_data.modeling  # noqa: F401 - registers what the configs name
from crack_data.config import load_config
from crack_data.errors import CrackError

CONFIGS = sorted(
    path
    for path in (Path(__file__).parents[1] / "configs").rglob("*.yaml")
    if not path.name.startswith("Base-")
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_its_model(path: Path) -> None:
    cfg = load_config(str(path), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    model = build_model(cfg)
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    assert model.roi_heads.num_classes == 1


def test_the_configs_choose_the_backbone() -> None:
    names = {
        path.stem: load_config(str(path)).MODEL.BACKBONE.NAME
        for path in CONFIGS
        if path.parent.name == "configs"
    }
    assert names["crack_r101"] == "build_resnet_fpn_backbone"
    assert names["crack_mobilenet"] == "build_mobilenetv2_fpn_backbone"
    assert names["crack_mobilenet_fpn256"] == "build_mobilenetv2_fpn_backbone"


def test_overrides_come_last(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("SOLVER:\n  MAX_ITER: 5\n")
    assert load_config(str(file)).SOLVER.MAX_ITER == 5
    assert load_config(str(file), ["SOLVER.MAX_ITER", "7"]).SOLVER.MAX_ITER == 7


@pytest.mark.parametrize(
    ("text", "overrides", "named"),
    [
        ("SOLVER:\n  MAX_ITERS: 5\n", [], "own.yaml.*SOLVER.MAX_ITERS"),
        ("SOLVER: [1\n", [], "own.yaml"),
        ("MODEL:\n  MASK_ON: maybe\n", [], "own.yaml.*MODEL.MASK_ON"),
        ("{}", ["SOLVER.MAX_ITERS", "5"], "MAX_ITERS"),
        ("{}", ["SOLVER.MAX_ITER"], "SOLVER.MAX_ITER.*no value"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, overrides: list[str], named: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(CrackError, match=named):
        load_config(str(file), overrides)


def test_a_missing_config_is_named() -> None:
    with pytest.raises(CrackError, match=r"no/such\.yaml does not exist"):
        load_config("no/such.yaml")
