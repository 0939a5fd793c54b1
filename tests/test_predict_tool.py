"""tools/predict.py: what it says of good and bad photos and arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from tests.conftest import ToolRun
from tests.inference.conftest import write_photo


@pytest.fixture(scope="module")
def model(
    tiny_crack_config: Callable[[], CfgNode], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """--config-file and --weights of an untrained model."""
    from detectron2.modeling import build_model

    cfg = tiny_crack_config()
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.CRACK.INFERENCE.FAST = "off"
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model.pth")
    (folder / "model.yaml").write_text(cfg.dump())
    return ["--config-file", str(folder / "model.yaml"), "--weights", str(folder / "model.pth")]


def test_a_folder_with_a_bad_photo(
    model: list[str], tmp_path: Path, run_tool: Callable[..., ToolRun]
) -> None:
    photos, out = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    write_photo(photos / "wall.png", 1)
    write_photo(photos / "wall.jpg", 2)
    (photos / "empty.jpg").write_bytes(b"")
    options = ["--output", str(out), *model, "--tile", "64", "--mm-per-px", "0.2", "--boxes"]
    options += ["--scores", "--threshold", "0.4"]
    done = run_tool("predict.py", "--input", photos, *options)
    assert done.returncode == 1, done.stderr
    assert "error: photo" in done.stderr
    assert "empty.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    assert "wall.png: " in done.stdout
    document = json.loads((out / "predictions.json").read_text())
    assert {x["name"]: x["file_name"] for x in document["images"]} == {
        "wall": "wall.jpg",
        "wall_png": "wall.png",
    }
    assert (out / "wall_png_overlay.png").exists()
    again = run_tool("predict.py", "--input", photos / "wall.*", *options, "--resume")
    assert again.returncode == 0, again.stderr
    assert "2 were complete" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--input", "absent.jpg"], "absent.jpg does not exist"),
        (["--tile", "small"], "--tile is auto, off or a size"),
        (["--tile", "²"], "--tile is auto, off or a size"),
        (["--mm-per-px", "0"], "--mm-per-px lies between"),
        (["--mm-per-px", "nan"], "--mm-per-px lies between"),
        (["--threshold", "2"], "--threshold"),
        (["--input", ""], "--input is empty"),
        (["--output", ""], "--output is empty"),
        (["--config-file", ""], "--config-file is empty"),
        (["--weights", "absent.pth"], "absent.pth"),
        (["--config-file", "absent.yaml"], "absent.yaml"),
        (["MODEL.NO_SUCH_KEY", "1"], "NO_SUCH_KEY"),
        (["--address", "auto"], "give --engine ray with it"),
        pytest.param(
            ["--engine", "ray", "--address", "hut"],
            "no Ray cluster answers at hut",
            marks=pytest.mark.ray,
        ),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_arguments_are_one_sentence(
    model: list[str], tmp_path: Path, arguments: list[str], sentence: str,
    run_tool: Callable[..., ToolRun],
) -> None:  # fmt: skip
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    write_photo(photo, 1)
    done = run_tool("predict.py", "--input", photo, "--output", out, *model, *arguments)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len([x for x in done.stderr.splitlines() if x.startswith("error: ")]) == 1
    assert "Traceback" not in done.stderr
    assert not out.exists()
