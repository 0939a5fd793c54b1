"""The average of the weights, against the sum written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crack_data.training.ema import build_ema


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


def test_state_survives_a_round_trip() -> None:
    torch.manual_seed(0)
    model = _network()
    average, other = build_ema(model, 0.9), build_ema(_network(), 0.9)
    average.update_parameters(model)
    other.load_state_dict(average.state_dict())
    for network in (average, other):
        network.update_parameters(_network_of(2.0))
    assert torch.equal(average.module[0].weight, other.module[0].weight)


def _network_of(value: float) -> nn.Module:
    model = _network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model
