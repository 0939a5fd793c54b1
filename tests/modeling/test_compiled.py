"""A compiled model gives what it gave before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from crack_data.modeling import CrackRCNN
from crack_data.modeling.compiled import choose_precision, compile_for_cpu
from crack_data.synthetic import draw_photo
from tests.conftest import UNMEASURED


def _settled(cfg) -> CrackRCNN:
    """An untrained model, with statistics of BatchNorm from a photo, so that it finds something."""
    # An untrained map hovers around its prior of .047: this cuts it into many instances.
    cfg.MODEL.CRACK_MAP.LINK_THRESHOLD = cfg.MODEL.CRACK_MAP.THRESHOLD = 0.0475
    cfg.MODEL.CRACK_MAP.LINK_GAP = 0
    cfg.MODEL.CRACK_MAP.DETECTOR_FLOOR = 0.5
    torch.manual_seed(1)
    model = build_model(cfg).train()
    image = torch.from_numpy(draw_photo(0).image).permute(2, 0, 1)
    with torch.no_grad():
        for _ in range(20):
            model.backbone(model.preprocess_image([{"image": image}]).tensor)
    return model.eval()


def _photo(height: int, width: int) -> dict[str, object]:
    image = draw_photo(3, height=200, width=200).image[:height, :width].copy()
    return {"image": torch.from_numpy(image.transpose(2, 0, 1)), "height": height, "width": width}


@pytest.mark.parametrize("kind", ["light", "mask branch"])
def test_same_outputs(kind: str, tiny_crack_config) -> None:
    cfg = tiny_crack_config()
    if kind == "mask branch":
        cfg.MODEL.MASK_ON = True
        cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 16
    model = _settled(cfg)
    heads, rois = model.roi_heads, torch.randn(3, cfg.MODEL.FPN.OUT_CHANNELS, 14, 14)
    if kind == "mask branch":  # whose pixels must not hang on the last digit, untrained as they are
        torch.nn.init.constant_(heads.mask_head.predictor.bias, 0.5)
    # Sizes that need padding and that do not, and two photos at once.
    batches = [[_photo(96, 128)], [_photo(75, 110)], [_photo(200, 64), _photo(64, 200)]]
    with torch.no_grad():
        expected = [model.run_network(batch) for batch in batches]
        masks = heads.mask_head.layers(rois) if kind == "mask branch" else None
        compile_for_cpu(model, "fp32")
        if masks is not None:
            torch.testing.assert_close(heads.mask_head.layers(rois), masks, atol=1e-4, rtol=1e-4)
        for batch, wanted in zip(batches, expected, strict=True):
            for mine, other in zip(model.run_network(batch), wanted, strict=True):
                difference = mine.probability.astype(int) - other.probability
                assert np.abs(difference).max() <= 1
                assert len(mine.detections) == len(other.detections) > 0
                scores = ([y.score for y in x.detections] for x in (mine, other))
                assert next(scores) == pytest.approx(next(scores), abs=1e-3)
                # Not by score: an untrained head gives many nearly the same.
                found = (sorted(x.detections, key=lambda y: y.box) for x in (mine, other))
                for a, b in zip(*found, strict=True):
                    assert a.score == pytest.approx(b.score, abs=1e-3)
                    assert np.abs(np.subtract(a.box, b.box)).max() <= 1
                    if kind == "mask branch":
                        assert a.mask is not None
        assert model(batches[0])[0]["instances"].pred_masks.any()


def test_precision() -> None:
    assert choose_precision("fp32") == "fp32"
    assert choose_precision("auto") in ("fp32", "bf16")


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("network", ["MobileNetV2", "ResNet", "another"])
def test_bf16_where_it_is_native_and_the_network_known(
    network: str, able: bool, tiny_crack_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    class Recorded(torch.nn.Module):
        def __init__(self, module, example, axes, precision) -> None:
            super().__init__()
            compiled.append(precision)

    monkeypatch.setattr("crack_data.modeling.compiled.CompiledModule", Recorded)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    if network == "another":
        monkeypatch.setattr("crack_data.modeling.compiled.MobileNetV2", int)
    resnet = network == "ResNet"
    cfg = tiny_crack_config("crack_r101.yaml" if resnet else "crack_mobilenet.yaml")
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM = 50, "BN"
    cfg.MODEL.MASK_ON = False
    compile_for_cpu(build_model(cfg).eval(), "auto")
    box_head = "bf16" if able else "fp32"
    assert compiled == ["fp32" if network == "another" else box_head, box_head]


_SCRIPT = """
import gc
import os
import signal

import torch

from crack_data.modeling.compiled import CompiledModule

signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))


def compile_one():
    return CompiledModule(torch.nn.ReLU(), torch.zeros(1, 3), {0: "rows"}, "fp32")


first, second = compile_one(), compile_one()
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_signals_are_handled_after_models_are_gone(repo: Path) -> None:
    """OpenVINO's processor plug-in moves the signal stack while it lives, and back afterwards."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT],
        cwd=repo, capture_output=True, text=True, check=False, env=os.environ | UNMEASURED,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr[-2000:]
