"""Parameter groups: what learns at which rate, and what decays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from crack_data.errors import CrackError
from crack_data.training.optimizer import build_crack_optimizer


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_groups(make_config: Callable[..., CfgNode], name: str, kind: type) -> None:
    cfg = make_config("SOLVER.OPTIMIZER", name, "SOLVER.BACKBONE_LR_FACTOR", 0.25)
    model = build_model(cfg)
    optimizer = build_crack_optimizer(cfg, model)
    assert isinstance(optimizer, kind)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    parameters = dict(model.named_parameters())
    assert len(rates) == len(parameters)
    for key, parameter in parameters.items():
        below = key.startswith("backbone.bottom_up.")
        assert rates[id(parameter)] == pytest.approx(cfg.SOLVER.BASE_LR * (0.25 if below else 1))
    norms = [m.weight for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert {decays[id(weight)] for weight in norms} == {cfg.SOLVER.WEIGHT_DECAY_NORM}


def test_clipping_limits_each_gradient(make_config: Callable[..., CfgNode]) -> None:
    cfg = make_config("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.5)
    model = build_model(cfg)
    optimizer = build_crack_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    assert all(p.grad.norm().item() == pytest.approx(0.5, rel=1e-3) for p in model.parameters())


def test_another_name(make_config: Callable[..., CfgNode]) -> None:
    cfg = make_config("SOLVER.OPTIMIZER", "adam")
    with pytest.raises(CrackError, match=r"SOLVER\.OPTIMIZER is 'adam'; use sgd or adamw"):
        build_crack_optimizer(cfg, torch.nn.Linear(1, 1))
