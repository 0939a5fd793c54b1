"""Frozen BatchNorm folded into convolutions: same outputs, same gradients, same keys."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from crack_data.modeling.efficientnet_lite import EfficientNetLite0
from crack_data.modeling.mobilenetv2 import MobileNetV2
from crack_data.training.folding import find_pairs, fold_norm


def _detectron2_style() -> nn.Module:
    """Convolutions that call their own norm and activation, one with a bias, one unpaired."""
    return nn.Sequential(
        Conv2d(3, 8, 3, padding=1, bias=False, norm=nn.BatchNorm2d(8), activation=F.relu_),
        Conv2d(8, 8, 3, stride=2, groups=8, padding=1, bias=True, norm=FrozenBatchNorm2d(8)),
        Conv2d(8, 4, 1),
    )


NETWORKS = {
    "mobilenetv2": (lambda: MobileNetV2(width_mult=0.25), 51),
    "mobilenetv2, first stage FrozenBN": (lambda: MobileNetV2(width_mult=0.25, freeze_at=1), 51),
    "efficientnet": (EfficientNetLite0, 48),
    "detectron2": (_detectron2_style, 2),
}
CASES = pytest.mark.parametrize(("build", "pairs"), NETWORKS.values(), ids=NETWORKS.keys())
BN = nn.BatchNorm2d | FrozenBatchNorm2d


def _trained(build: Callable[[], nn.Module]) -> nn.Module:
    """A network in double precision whose norms have statistics, gamma and beta of their own."""
    torch.manual_seed(0)
    network = build().double()
    for module in network.modules():
        if isinstance(module, BN):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.2, 0.2)
    return network


def _outputs(network: nn.Module) -> list[torch.Tensor]:
    photos = torch.rand(
        2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    found = network(photos)
    return list(found.values()) if isinstance(found, dict) else [found]


def _gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    network.zero_grad()
    torch.stack([x.square().mean() for x in _outputs(network)]).sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def _differs(mine: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
    assert mine.keys() == expected.keys()
    largest = max(float(x.abs().max()) for x in expected.values())
    return [
        name
        for name, x in expected.items()
        if not torch.allclose(mine[name], x, rtol=1e-9, atol=1e-12 * largest)
    ]


@CASES
def test_same_outputs_and_gradients(build: Callable[[], nn.Module], pairs: int) -> None:
    plain = _trained(build).eval()
    folded = deepcopy(plain)
    assert len(find_pairs(folded)) == pairs
    fold_norm(folded)
    assert not _differs(_gradients(folded), _gradients(plain))
    for mine, expected in zip(_outputs(folded), _outputs(plain), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
    assert list(folded.state_dict()) == list(plain.state_dict())


@CASES
def test_training_mode_computes_statistics_as_ever(
    build: Callable[[], nn.Module], pairs: int
) -> None:
    plain = _trained(build).train()
    folded = deepcopy(plain)
    fold_norm(folded)
    assert all(module.training for module in folded.modules())
    for mine, expected in zip(_outputs(folded), _outputs(plain), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
    for name, value in folded.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-9, atol=1e-12)


def test_a_copy_has_weights_of_its_own() -> None:
    original = _trained(lambda: MobileNetV2(width_mult=0.25)).eval()
    fold_norm(original)
    before = _outputs(original)
    copy = deepcopy(original)
    for parameter in copy.parameters():
        parameter.data.mul_(0.5)
    assert not torch.equal(_outputs(copy)[0], before[0])
    assert torch.equal(_outputs(original)[0], before[0])


def test_an_output_that_is_used_before_its_norm_is_no_pair() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.convolution(x).relu())

    assert find_pairs(Between()) == []


def test_strided_depthwise_in_bf16() -> None:
    network = _trained(lambda: MobileNetV2(width_mult=0.25)).float().eval()
    photos = torch.rand(1, 3, 64, 64)
    expected = network(photos)["res5"]
    fold_norm(network)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(photos)["res5"]
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
