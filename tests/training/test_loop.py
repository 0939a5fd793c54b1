"""One iteration, on a model small enough to compute by hand; what learns at which rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from crack_data.training.loop import CrackStepper, build_crack_optimizer, build_stepper


class Squares(nn.Module):
    """Its loss is the mean of (weight x - y)^2, split in two like a detector's."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.line.weight, 0.5)
        self.seen: list[torch.dtype] = []

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        x = torch.tensor([[sample["x"]] for sample in batch])
        y = torch.tensor([[sample["y"]] for sample in batch])
        prediction = self.line(x)
        self.seen.append(prediction.dtype)
        loss = ((prediction.float() - y) ** 2).mean()
        return {"loss_a": 0.25 * loss, "loss_b": 0.75 * loss}


SAMPLES = [{"x": float(i), "y": 2.0 * i} for i in range(1, 9)]


def _train(batch: int, accumulate: int, bf16: bool = False) -> Squares:
    model = Squares()
    batches = [SAMPLES[i : i + batch] for i in range(0, len(SAMPLES), batch)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    stepper = CrackStepper(model, optimizer, bf16, accumulate)
    stepper.data_loader = batches
    with EventStorage():
        for stepper.iter in range(len(batches)):
            stepper.run_step()
    return model


def test_a_step_is_the_gradient_of_the_mean() -> None:
    weight = _train(batch=8, accumulate=1).line.weight.item()
    gradient = sum(2 * (0.5 * s["x"] - s["y"]) * s["x"] for s in SAMPLES) / len(SAMPLES)
    assert weight == pytest.approx(0.5 - 1e-3 * gradient, rel=1e-6)


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 2), (2, 4), (1, 8)])
def test_accumulation_is_a_larger_batch(batch: int, accumulate: int) -> None:
    whole, parts = _train(8, 1), _train(batch, accumulate)
    assert torch.allclose(whole.line.weight, parts.line.weight, rtol=1e-6)
    assert not torch.allclose(whole.line.weight, _train(batch, 1).line.weight, rtol=1e-4)


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32() -> None:
    model = _train(batch=4, accumulate=1, bf16=True)
    assert model.seen == [torch.bfloat16] * 2
    assert model.line.weight.dtype == torch.float32
    assert model.line.weight.item() == pytest.approx(_train(4, 1).line.weight.item(), rel=1e-2)


def test_a_loss_that_is_not_finite_does_not_reach_the_weights() -> None:
    model = Squares()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    broken = [[{"x": 1.0, "y": float("inf")}]]
    stepper = CrackStepper(model, optimizer, bf16=False, accumulate=1)
    stepper.data_loader = broken
    with EventStorage(), pytest.raises(FloatingPointError):
        stepper.run_step()
    assert model.line.weight.item() == 0.5


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_groups(make_config: Callable[..., CfgNode], name: str, kind: type) -> None:
    factors = ("SOLVER.BACKBONE_LR_FACTOR", 0.25, "SOLVER.BIAS_LR_FACTOR", 2.0)
    cfg = make_config("SOLVER.OPTIMIZER", name, *factors)
    model = build_model(cfg)
    optimizer = build_crack_optimizer(cfg, model)
    assert isinstance(optimizer, kind)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    parameters = dict(model.named_parameters())
    assert len(rates) == len(parameters)
    for key, parameter in parameters.items():
        factor = 0.25 if key.startswith("backbone.bottom_up.") else 1
        factor *= 2 if key.endswith(".bias") else 1
        assert rates[id(parameter)] == pytest.approx(cfg.SOLVER.BASE_LR * factor)
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


@pytest.mark.parametrize(
    ("able", "used"),
    [
        ({}, False),
        ({"avx512_f": True}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_bf16_only_where_the_processor_has_it(
    make_config: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch, able: dict, used: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    model = Squares()
    assert build_stepper(make_config("SOLVER.CPU_BF16", "True"), model).bf16 is used
    assert not build_stepper(make_config("SOLVER.CPU_BF16", "False"), model).bf16
