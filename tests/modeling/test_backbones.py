"""The MobileNetV2 backbone: strides, stages, norms, and weights that must match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torchvision.models import mobilenet_v2

from crack_data.errors import CrackError
from crack_data.modeling import MobileNetV2
from crack_data.weights import load_backbone_weights

STAGES = ["res1", "res2", "res3", "res4", "res5"]


def mobilenet(
    width_mult: float = 1.0,
    norm: str = "BN",
    out_features: Sequence[str] = STAGES[1:],
    freeze_at: int = 0,
) -> MobileNetV2:
    return MobileNetV2(width_mult, norm, out_features, freeze_at)


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("crack_mobilenet.yaml", ["p2", "p3", "p4", "p5", "p6"]),
        ("comparison/crack_mobilenet_stages.yaml", ["res1", "res2", "p3", "p4", "p5", "p6"]),
    ],
)
def test_the_pyramid_and_the_stages_below_it(
    tiny_crack_config: Callable, name: str, levels: list[str]
) -> None:
    backbone = build_backbone(tiny_crack_config(name))
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 128))
    assert list(features) == list(backbone.output_shape()) == levels
    for feature, shape in backbone.output_shape().items():
        size = (64 // shape.stride, 128 // shape.stride)
        assert features[feature].shape == (1, shape.channels, *size)
        assert shape.stride == 2 ** int(feature[-1])


def test_mobilenet_is_torchvisions() -> None:
    reference = mobilenet_v2().eval()
    backbone = mobilenet(out_features=STAGES).eval()
    backbone.load_state_dict(reference.state_dict(), strict=False)
    photo = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        outputs = backbone(photo)
        torch.testing.assert_close(outputs["res5"], reference.features[:-1](photo))
    for index, name in enumerate(STAGES):
        shape = backbone.output_shape()[name]
        assert shape.stride == 2 ** (index + 1)
        assert outputs[name].shape == (1, shape.channels, 64 // shape.stride, 64 // shape.stride)


def test_stages_that_are_known_are_not_run_again() -> None:
    backbone = mobilenet(out_features=["res1", "res2", "res4"]).eval()
    with torch.no_grad():
        outputs = backbone(torch.rand(1, 3, 64, 64))
        for layer in backbone.features:
            layer.forward = lambda x: pytest.fail("run again")
        assert backbone(outputs) == outputs


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "SyncBN"])
def test_each_norm_builds_and_runs(norm: str) -> None:
    backbone = mobilenet(norm=norm, width_mult=0.5).eval()
    assert backbone(torch.rand(1, 3, 32, 32))["res5"].isfinite().all()


@pytest.mark.parametrize("freeze_at", [0, 1, 3, 5])
def test_freeze_at_counts_stages_from_the_input(freeze_at: int) -> None:
    backbone = mobilenet(freeze_at=freeze_at)
    for index, (start, end) in enumerate([(0, 2), (2, 4), (4, 7), (7, 14), (14, 18)]):
        parameters = list(backbone.features[start:end].parameters())
        assert any(p.requires_grad for p in parameters) == (index >= freeze_at)
    frozen_norms = any(isinstance(m, FrozenBatchNorm2d) for m in backbone.modules())
    assert frozen_norms == (freeze_at > 0)


def test_autocast_leaves_convolutions_that_halve_the_resolution_in_fp32() -> None:
    convolutions = [m for m in mobilenet().modules() if isinstance(m, torch.nn.Conv2d)]
    halving = [m for m in convolutions if m.stride == (2, 2) and m.groups > 1]
    assert [m.in_channels for m in halving] == [96, 144, 192, 576]
    for layer in halving:
        features = torch.rand(2, layer.in_channels, 8, 8).bfloat16().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(features)
        expected = layer(features.float())
        torch.testing.assert_close(output, expected.bfloat16(), rtol=0, atol=0)
        weights = layer.weight.bfloat16().float()  # what autocast would compute with
        coarse = torch.nn.functional.conv2d(features.float(), weights, None, 2, 1, 1, layer.groups)
        assert not torch.equal(output, coarse.bfloat16())
        gradients = [torch.autograd.grad(x.sum(), features)[0] for x in (output, expected)]
        torch.testing.assert_close(*gradients, rtol=0.01, atol=1e-4)


def test_settings_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match="res9"):
        mobilenet(out_features=["res9"])
    with pytest.raises(ValueError, match="6"):
        mobilenet(freeze_at=6)


def test_initial_weights_arrive(tmp_path: Path) -> None:
    stored = mobilenet_v2().state_dict()
    torch.save(stored, tmp_path / "weights.pth")
    backbone = mobilenet()
    load_backbone_weights(backbone, str(tmp_path / "weights.pth"))
    loaded = backbone.state_dict()
    names = [name for name in loaded if "num_batches_tracked" not in name]
    assert len(names) > 200
    assert all(torch.equal(loaded[name], stored[name]) for name in names)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = mobilenet_v2().state_dict()
    del state["features.3.conv.0.0.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(CrackError, match=r"short.pth .* 1 of .* features\.3\.conv\.0\.0\.weight"):
        load_backbone_weights(mobilenet(), str(tmp_path / "short.pth"))
    with pytest.raises(CrackError, match=r"differ in shape"):
        load_backbone_weights(mobilenet(width_mult=0.5), str(tmp_path / "short.pth"))


@pytest.mark.parametrize("name", ["note.pth", "absent.pth", "http://127.0.0.1:9/weights.pth"])
def test_files_that_are_no_weights_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "note.pth").write_text("not weights")
    path = name if "://" in name else str(tmp_path / name)
    with pytest.raises(CrackError, match=name):
        load_backbone_weights(mobilenet(), path)
