"""The benchmark counts and times what it says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from benchmarks.backbones.machine import describe_machine
from benchmarks.backbones.measure import measure
from benchmarks.backbones.photos import drawn_photos
from benchmarks.backbones.report import write_report
from benchmarks.backbones.rows import Row, rows_of
from benchmarks.backbones.size import count_gflops, count_parameters, part_of
from benchmarks.backbones.stages import stage_times
from benchmarks.backbones.stand_in import stand_in_weights
from benchmarks.backbones.tiling import lay_out
from crack_data.errors import CrackError


def test_parameters_add_up(tiny_crack_config) -> None:
    model = build_model(tiny_crack_config())
    counts = count_parameters(model)
    assert counts["all"] == sum(p.numel() for p in model.parameters())
    assert counts["all"] == sum(value for part, value in counts.items() if part != "all")
    assert counts["crack map"] == sum(p.numel() for p in model.crack_map_head.parameters())


def test_gflops_of_a_known_layer(tiny_crack_config) -> None:
    model = build_model(tiny_crack_config()).eval()
    counts = count_gflops(model, {"image": torch.zeros(3, 64, 64)})
    head = model.crack_map_head
    # 3x3 convolutions: context at stride 4, the others at stride 2; the predictor is 1x1.
    at_2 = [head.photo, head.refine[0], head.last, head.predictor]
    expected = 16 * 16 * head.context[0].weight.numel()
    expected += 32 * 32 * sum(layer.weight.numel() for layer in at_2)
    assert counts["crack map"] * 1e9 == pytest.approx(expected, rel=0.15)
    assert counts["all"] == pytest.approx(sum(v for k, v in counts.items() if k != "all"))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("backbone.bottom_up.features.0", "backbone"),
        ("backbone.fpn_output2", "FPN"),
        ("roi_heads.mask_head.deconv", "mask head"),
        ("pixel_mean", "other"),
    ],
)
def test_part_of(name: str, part: str) -> None:
    assert part_of(name) == part


def test_models_of_one_file_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    configs = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        configs.append(str(tmp_path / folder / "config.yaml"))
        Path(configs[-1]).write_text(
            f"MODEL:\n  META_ARCHITECTURE: CrackRCNN\n  WEIGHTS: {tmp_path}/weights.pth\n"
        )
    assert [row.name for row in rows_of(configs[:1], "cpu", "fp32", "")] == [
        "config, Detectron2", "config, fast path",
    ]  # fmt: skip
    assert len({row.name for row in rows_of(configs, "cpu", "fp32", "")}) == 4
    Path(configs[0]).write_text(f"MODEL:\n  WEIGHTS: {tmp_path}/weights.pth\n")  # not compiled
    assert [row.path for row in rows_of(configs[:1], "cpu", "fp32", "")] == ["Detectron2"]


class _Slow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.backbone.register_forward_pre_hook(lambda *_: None)
        self.crack_map_head = _Sleep()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.propose(self.crack_map_head(self.backbone(x)))

    def propose(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return x


class _Sleep(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return x


def test_stage_times_see_where_time_goes() -> None:
    model = _Slow()
    start = time.perf_counter()
    with stage_times(model) as times:
        model(torch.zeros(1))
        model(torch.zeros(1))
    passed = 1000 * (time.perf_counter() - start)
    assert times["crack map"] >= 40
    assert times["RPN"] >= 20
    # No part's time is in another's, however busy the machine is.
    assert times["crack map"] + times["RPN"] + times["backbone + FPN"] <= passed
    assert set(times) == {"crack map", "RPN", "backbone + FPN"}
    seen = dict(times)
    model(torch.zeros(1))
    assert dict(times) == seen
    assert "propose" not in vars(model)


def test_stand_in_weights_find_something(tiny_stock_config, tmp_path: Path) -> None:
    cfg = tiny_stock_config()
    path = stand_in_weights(cfg, str(tmp_path))
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    image = torch.full((3, 96, 128), 120.0)
    with torch.no_grad():
        assert torch.isfinite(model.backbone(image[None])["p2"]).all()
    written = Path(path).stat().st_mtime_ns
    assert stand_in_weights(cfg, str(tmp_path)) == path
    assert Path(path).stat().st_mtime_ns == written


def test_report_of_two_rows(tiny_crack_config, tiny_stock_config, tmp_path: Path) -> None:
    rows = []
    for name, cfg in (("stock", tiny_stock_config()), ("ours", tiny_crack_config())):
        cfg.INPUT.MIN_SIZE_TEST = 0
        cfg.CRACK.INFERENCE.FAST = "off" if name == "stock" else "auto"
        cfg.MODEL.WEIGHTS = stand_in_weights(cfg, str(tmp_path))
        rows.append(Row(name, cfg, trained=False))
    photos = drawn_photos(tmp_path / "photos")
    results = measure(rows, photos[:2], rounds=2)
    accuracy = {"ours": {"a.json": {"f1": 0.5}, "b.json": {"f1": 0.25}}}
    page = write_report(tmp_path, results, {"threads": "2"}, accuracy, {})
    content = json.loads((tmp_path / "benchmark.json").read_text())
    stock, ours = content["rows"]
    assert (stock["path"], ours["path"]) == ("Detectron2", "fast")
    assert stock["n"] == ours["n"] == 4
    assert stock["median_ms"] > 0
    shared = {"read", "resize", "RPN", "box head", "masks and the rest"}
    assert set(stock["stages_ms"]) == shared | {"backbone + FPN", "mask head"}
    assert set(ours["stages_ms"]) == shared | {"backbone, FPN, RPN head, crack map"}
    assert (tmp_path / "benchmark.md").read_text() == page
    for line in ("1313.1", "| stock | Detectron2 |", "| ours | fast |", "on b.json", "0.250"):
        assert line in page
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000


def test_a_large_photo_is_laid_out_of_small_ones() -> None:
    small = [np.full((2, 3, 3), value, np.uint8) for value in (1, 2)]
    assert lay_out(small, 3, 7)[:, :, 0].tolist() == [
        [1, 1, 1, 2, 2, 2, 1],
        [1, 1, 1, 2, 2, 2, 1],
        [2, 2, 2, 1, 1, 1, 2],
    ]


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(CrackError, match=f"--device {device} cannot be used here"):
        describe_machine(device)
