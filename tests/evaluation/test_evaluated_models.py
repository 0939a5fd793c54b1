"""Evaluation of real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from crack_data.config import load_predict_config
from crack_data.errors import CrackError
from crack_data.evaluation.calibration import calibrate
from crack_data.evaluation.evaluator import evaluate_dataset
from crack_data.inference.predictor import CrackPredictor
from tests.conftest import ToolRun
from tests.evaluation import reference
from tests.evaluation.drawn_set import (
    annotation,
)


@pytest.mark.parametrize("kind", ["stock", "crack"])
def test_real_models(
    dataset: str,
    tmp_path: Path,
    kind: str,
    tiny_stock_config: Callable[[], CfgNode],
    tiny_crack_config: Callable[[], CfgNode],
) -> None:
    cfg = tiny_stock_config() if kind == "stock" else tiny_crack_config()
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.0
    cfg.MODEL.CRACK_MAP.LINK_THRESHOLD = 0.02
    cfg.MODEL.CRACK_MAP.THRESHOLD = 0.02  # an untrained map is sure of nothing
    torch.manual_seed(0)
    metrics = evaluate_dataset(CrackPredictor(cfg), dataset, cfg)["crack"]
    assert metrics["recall"] > 0
    assert metrics["f1"] <= metrics["f1_ods"] + 1e-3  # the drawn threshold is among the many


def test_a_model_without_a_map_is_not_calibrated(
    dataset: str, tmp_path: Path, tiny_stock_config: Callable[[], CfgNode]
) -> None:
    cfg = tiny_stock_config()
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "stock.pth")
    cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST = str(tmp_path / "stock.pth"), (dataset,)
    with pytest.raises(CrackError, match="GeneralizedRCNN draws no crack map to calibrate"):
        calibrate(cfg)


def f1_of_wall(
    photos: list[Path],
    masks: list[Path],
    rows: int,
    size: int,
    folder: Path,
    run_tool: Callable[..., ToolRun],
) -> dict[str, float]:
    """Photos side by side as one wall, evaluated, and its mask by tools/predict.py scored apart.

    Args:
        photos, masks: as many as fill ``rows`` rows, all of one size.
        rows: of the wall.
        size: CRACK.INFERENCE.TILE_SIZE.
        folder: for all files.
        run_tool: the fixture of that name.
    """
    columns = len(photos) // rows
    for kind, files in (("wall", photos), ("truth", masks)):
        pictures = [cv2.imread(str(file)) for file in files]
        bands = [np.hstack(pictures[i * columns : (i + 1) * columns]) for i in range(rows)]
        cv2.imwrite(str(folder / f"{kind}.png"), np.vstack(bands))
    truth = cv2.imread(str(folder / "truth.png"), cv2.IMREAD_GRAYSCALE) > 127
    cfg = load_predict_config(overrides=["CRACK.INFERENCE.TILE_SIZE", size])
    cfg.OUTPUT_DIR = str(folder)
    record = {
        "file_name": str(folder / "wall.png"),
        "image_id": 1,
        "height": truth.shape[0],
        "width": truth.shape[1],
        "annotations": [annotation(truth)],
    }
    DatasetCatalog.register("test_wall", lambda: [record])
    try:
        evaluated = evaluate_dataset(CrackPredictor(cfg), "test_wall", cfg)["crack"]["f1"]
    finally:
        DatasetCatalog.remove("test_wall")
    words = ["--input", folder / "wall.png", "--output", folder / "predicted", "--tile", size]
    assert run_tool("predict.py", *words).returncode == 0
    mask = cv2.imread(str(folder / "predicted" / "wall_mask.png"), cv2.IMREAD_GRAYSCALE) > 127
    return {"evaluated": evaluated, "of the mask": reference.strict([(truth, mask)])["f1"]}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("photos", "rows", "size"), [(4, 2, 320), pytest.param(36, 6, 1024, marks=pytest.mark.slow)]
)
def test_wall_is_evaluated_as_users_see_it(
    shared: Path,
    tmp_path: Path,
    photos: int,
    rows: int,
    size: int,
    run_tool: Callable[..., ToolRun],
) -> None:
    folder = shared / "data" / "deepcrack_train"
    files = sorted((folder / "images").iterdir())
    files = [file for file in files if cv2.imread(str(file)).shape == (384, 544, 3)][:photos]
    masks = [next((folder / "masks").glob(f"{file.stem}.*")) for file in files]
    f1 = f1_of_wall(files, masks, rows, size, tmp_path, run_tool)
    assert f1["of the mask"] > 0.5
    assert f1["evaluated"] == pytest.approx(f1["of the mask"], abs=0.002)
