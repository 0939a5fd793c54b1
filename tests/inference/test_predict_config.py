from __future__ import annotations

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from crack_data import config
from crack_data.config import load_predict_config, shipped
from crack_data.errors import CrackError


@pytest.fixture
def config_file(tiny_cfg: CfgNode, tmp_path: Path) -> Path:
    cfg = tiny_cfg.clone()
    cfg.MODEL.WEIGHTS = "checkpoints/model.pth"
    path = tmp_path / "model.yaml"
    path.write_text(cfg.dump())
    return path


def place(tiny_cfg: CfgNode, folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    return Path(shutil.copy(tiny_cfg.MODEL.WEIGHTS, folder / "checkpoints" / "model.pth"))


def test_the_shipped_config_is_there() -> None:
    assert shipped("configs/predict_mobilenet.yaml").is_file()


def test_weights_below_the_working_folder(
    tiny_cfg: CfgNode, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tiny_cfg, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_predict_config(str(config_file)).MODEL.WEIGHTS == "checkpoints/model.pth"


@pytest.mark.parametrize("place_of_package", ["checkout", "wheel"])
def test_weights_beside_the_shipped_configs(
    tiny_cfg: CfgNode,
    config_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place_of_package: str,
) -> None:
    package = tmp_path / "site" / "crack_data"
    weights = place(tiny_cfg, package if place_of_package == "wheel" else package.parent)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(config, "_PACKAGE", package)
    found = load_predict_config(str(config_file)).MODEL.WEIGHTS
    assert Path(found) == weights


def test_given_weights_and_overrides_come_first(tiny_cfg: CfgNode, config_file: Path) -> None:
    cfg = load_predict_config(
        str(config_file), tiny_cfg.MODEL.WEIGHTS, ["MODEL.CRACK_MAP.THRESHOLD", "0.4"]
    )
    assert cfg.MODEL.WEIGHTS == tiny_cfg.MODEL.WEIGHTS
    assert cfg.MODEL.CRACK_MAP.THRESHOLD == 0.4


@pytest.mark.parametrize("weights", ["absent.pth", None])
def test_absent_weights_are_named(config_file: Path, weights: str | None) -> None:
    expected = weights or "checkpoints/model.pth"
    with pytest.raises(CrackError, match=f"checkpoint {expected} does not exist"):
        load_predict_config(str(config_file), weights)


def test_a_config_without_weights_is_named(config_file: Path) -> None:
    with pytest.raises(CrackError, match=r"model\.yaml names no MODEL\.WEIGHTS"):
        load_predict_config(str(config_file), overrides=["MODEL.WEIGHTS", ""])


def test_weights_of_a_url_are_fetched_once(
    tiny_cfg: CfgNode, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    weights = place(tiny_cfg, tmp_path)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/checkpoints/model.pth"
        found = load_predict_config(str(config_file), url).MODEL.WEIGHTS
        server.shutdown()
    assert Path(found).read_bytes() == weights.read_bytes()
    assert found == load_predict_config(str(config_file), url).MODEL.WEIGHTS
    with pytest.raises(CrackError, match=r"checkpoint http://127.*none\.pth cannot be fetched: "):
        load_predict_config(str(config_file), url.replace("model", "none"))
