"""tools/export_onnx.py: the file finds what PyTorch finds, at any size."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from benchmarks.backbones.stand_in import stand_in_weights
from crack_data.errors import CrackError
from crack_data.modeling.compiled import to_onnx
from crack_data.synthetic import draw_photo

from .conftest import REPO, ToolRun


def _arguments(folder: Path, cfg: CfgNode) -> list[str]:
    """Those of a tiny model and of three photos."""
    (folder / "photos").mkdir()
    for index, (height, width) in enumerate([(128, 160), (96, 96), (150, 210)]):
        image = draw_photo(index, height=height, width=width).image
        cv2.imwrite(str(folder / "photos" / f"{index}.png"), image)
    (folder / "model.yaml").write_text(cfg.dump())
    words = {
        "--output": folder / "model.onnx",
        "--images": folder / "photos",
        "--config-file": folder / "model.yaml",
        "--weights": stand_in_weights(cfg, str(folder)),
    }
    return [str(word) for pair in words.items() for word in pair]


def test_the_file_equals_pytorch_on_photos_of_three_sizes(
    tiny_crack_config: Callable[[], CfgNode], tmp_path: Path, run_tool: Callable[..., ToolRun]
) -> None:
    done = run_tool("export_onnx.py", *_arguments(tmp_path, tiny_crack_config()))
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert "3 photos" in done.stdout
    assert int(words[words.index("detections,") - 1]) > 3
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    assert [output.name for output in model.graph.output] == ["boxes", "scores", "crack_map"]
    photo = tmp_path / "photos" / "0.png"
    before = photo.read_bytes()
    done = run_tool("export_onnx.py", "--output", str(photo), "--images", str(photo))
    assert done.returncode == 1
    assert "0.png must end in .onnx" in done.stderr
    assert photo.read_bytes() == before


def test_a_photo_too_small_for_the_file_is_named(
    tiny_crack_config: Callable[[], CfgNode], tmp_path: Path, run_tool: Callable[..., ToolRun]
) -> None:
    arguments = _arguments(tmp_path, tiny_crack_config())
    cv2.imwrite(str(tmp_path / "photos" / "3.png"), np.zeros((4, 5, 3), np.uint8))
    done = run_tool("export_onnx.py", *arguments)
    assert done.returncode == 1
    assert "the ONNX cannot be run on a photo of 5x4 px" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_computes_nan_is_refused(
    tiny_crack_config: Callable[[], CfgNode], tmp_path: Path
) -> None:
    tool = runpy.run_path(str(REPO / "tools" / "export_onnx.py"))
    cfg = tiny_crack_config()
    model = build_model(cfg)
    model.load_state_dict(torch.load(stand_in_weights(cfg, str(tmp_path)))["model"])
    module = tool["CrackTensors"](model)
    broken = deepcopy(module)
    torch.nn.init.constant_(broken.model.crack_map_head.predictor.bias, np.nan)
    photo = torch.from_numpy(draw_photo(0, height=96, width=96).image.transpose(2, 0, 1).copy())
    data = to_onnx(broken, [photo.float()], tool["_AXES"])
    with pytest.raises(CrackError, match=r"crack_map nan\) and is not written"):
        tool["compare"](module, data, [photo.float()])


def test_a_model_without_a_crack_map_is_refused(
    tiny_stock_config: Callable[[], CfgNode], tmp_path: Path, run_tool: Callable[..., ToolRun]
) -> None:
    done = run_tool("export_onnx.py", *_arguments(tmp_path, tiny_stock_config()))
    assert done.returncode == 1
    assert "only a CrackRCNN is exported" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model.onnx").exists()
