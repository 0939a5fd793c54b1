"""The exported file finds what PyTorch finds, at any size."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from detectron2.modeling import build_model

from benchmarks.backbones.stand_in import stand_in_weights
from crack_data.errors import CrackError
from crack_data.export import ExportModule, compare, export_onnx
from crack_data.synthetic import draw_photo


def _photo(index: int, height: int, width: int) -> torch.Tensor:
    image = draw_photo(index, height=height, width=width).image
    return torch.from_numpy(image).permute(2, 0, 1).float()


@pytest.fixture(params=["map", "masks"])
def module(request, tiny_crack_config, tiny_stock_config, tmp_path: Path) -> ExportModule:
    cfg = tiny_crack_config() if request.param == "map" else tiny_stock_config()
    model = build_model(cfg)
    weights = torch.load(stand_in_weights(cfg, str(tmp_path)), weights_only=True)
    model.load_state_dict(weights["model"])
    # Below an untrained map's prior of .047, so that masks are not empty.
    return ExportModule(model, threshold=0.0475)


def test_file_equals_pytorch(module: ExportModule, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(module, path, _photo(0, 128, 160))
    onnx.checker.check_model(onnx.load(path))
    photos = [_photo(1, 128, 160), _photo(2, 96, 96), _photo(3, 150, 210)]
    found = compare(module, path, photos)
    assert found.photos == 3
    assert found.detections > 3
    assert found.mask_iou > 0.9


def test_comparison_notices_another_model(module: ExportModule, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(module, path, _photo(0, 128, 160))
    with torch.no_grad():
        module.model.roi_heads.box_predictor.cls_score.bias[0] += 0.5
    with pytest.raises(CrackError, match=r"model\.onnx"):
        compare(module, path, [_photo(1, 128, 160)])


def test_a_model_without_masks_is_refused(tiny_stock_config) -> None:
    cfg = tiny_stock_config()
    cfg.MODEL.MASK_ON = False
    with pytest.raises(CrackError, match="neither a mask branch nor a crack map"):
        ExportModule(build_model(cfg), 0.5)
