"""Initial weights: what may differ and what may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from crack_data.errors import CrackError
from crack_data.weights import load_initial_weights


@pytest.fixture
def weights(make_config: Callable[..., CfgNode], tmp_path: Path) -> Path:
    """A checkpoint of the small model, with 80 classes instead of one."""
    torch.manual_seed(1)
    model = build_model(make_config("MODEL.ROI_HEADS.NUM_CLASSES", 80))
    path = tmp_path / "other.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


def test_a_detector_of_other_classes_is_taken_over(
    make_config: Callable[..., CfgNode], weights: Path
) -> None:
    model = build_model(make_config())
    classifier = model.roi_heads.box_predictor.cls_score.weight.clone()
    load_initial_weights(make_config("MODEL.WEIGHTS", weights), model)
    stored = torch.load(weights, weights_only=True)["model"]
    assert torch.equal(model.backbone.fpn_output2.weight, stored["backbone.fpn_output2.weight"])
    assert torch.equal(model.roi_heads.box_predictor.cls_score.weight, classifier)


def test_another_architecture_is_refused(
    make_config: Callable[..., CfgNode], weights: Path
) -> None:
    cfg = make_config("MODEL.WEIGHTS", weights, "MODEL.MOBILENETV2.WIDTH_MULT", 0.5)
    with pytest.raises(CrackError, match=r"other\.pth is of another architecture: it holds \d+ of"):
        load_initial_weights(cfg, build_model(cfg))


def test_backbone_weights_go_below_the_fpn(
    make_config: Callable[..., CfgNode], weights: Path, tmp_path: Path
) -> None:
    prefix = "backbone.bottom_up."
    state = torch.load(weights, weights_only=True)["model"]
    below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    path = tmp_path / "backbone.pth"
    torch.save(below, path)
    cfg = make_config("MODEL.BACKBONE.WEIGHTS", path)
    model = build_model(cfg)
    load_initial_weights(cfg, model)
    loaded = model.backbone.bottom_up.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in below.items())
