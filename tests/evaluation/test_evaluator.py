from __future__ import annotations

import csv
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.engine import launch
from detectron2.evaluation.testing import flatten_results_dict, print_csv_format
from detectron2.utils import comm

from crack_data.config import add_crack_config
from crack_data.errors import CrackError
from crack_data.evaluation import CrackEvaluator, evaluate_dataset, evaluate_datasets
from crack_data.evaluation.evaluator import folder_name
from crack_data.inference.defaults import load_predict_config
from crack_data.inference.prediction import CrackInstance, CrackPrediction
from crack_data.inference.predictor import CrackPredictor
from tests.conftest import REPO
from tests.evaluation import reference

NAME = "test_crack_evaluator"
HEIGHT, WIDTH = 24, 32
PHOTOS = 7


def truth_of(index: int) -> np.ndarray:
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    if index % 3:
        rows = np.clip(4 + index + np.cumsum(np.resize([0, 1, 0, -1, 1], WIDTH)), 0, HEIGHT - 1)
        truth[rows, np.arange(WIDTH)] = True
    return truth


def photo_of(index: int) -> np.ndarray:
    """The grey photo, in which a pixel is as bright as it is likely to be crack."""
    rng = np.random.default_rng(index)
    moved = np.roll(truth_of(index), index % 2, axis=0)
    noise = rng.integers(0, 100 + 60 * (index == 3), moved.shape)
    return np.clip(150 * moved + noise, 0, 255).astype(np.uint8)


def found(photo: np.ndarray) -> CrackPrediction:
    """Predicts from the photo's pixels: one instance with all of its bright ones, one rejected."""
    levels = photo[:, :, 0]
    height, width = levels.shape
    box = (0, 0, width, height)
    drawn = (CrackInstance(0.9, box, levels > 127),) if (levels > 127).any() else ()
    rejected = (CrackInstance(0.1, box, np.ones_like(levels, bool)),)
    return CrackPrediction(height, width, drawn, rejected, levels.copy(), 0.5, {})


def annotation(mask: np.ndarray, crowd: int = 0) -> dict[str, Any]:
    return {"segmentation": coco_mask.encode(np.asfortranarray(mask, np.uint8)), "iscrowd": crowd}


def register(folder: Path, ignored: np.ndarray | None = None) -> None:
    records = []
    for index in range(PHOTOS):
        path = folder / f"photo{index}.png"
        if not path.exists():
            cv2.imwrite(str(path), cv2.cvtColor(photo_of(index), cv2.COLOR_GRAY2BGR))
        annotations = [annotation(truth_of(index))] if index % 3 else []
        if ignored is not None:
            annotations.append(annotation(ignored, crowd=1))
        size = {"height": HEIGHT, "width": WIDTH}
        about = {"file_name": str(path), "image_id": index + 100, "annotations": annotations}
        records.append(about | size)
    DatasetCatalog.register(NAME, lambda: records)


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    register(tmp_path)
    yield NAME
    DatasetCatalog.remove(NAME)


def make_config(folder: Path) -> CfgNode:
    cfg = get_cfg()
    add_crack_config(cfg)
    cfg.OUTPUT_DIR = str(folder / "out")
    cfg.MODEL.META_ARCHITECTURE = "CrackRCNN"
    return cfg


def expected_metrics() -> dict[str, float]:
    photos = [
        reference.Photo(truth_of(i), photo_of(i) / np.float32(255) > 0.5, photo_of(i) / 255)
        for i in range(PHOTOS)
    ]
    return reference.metrics(photos)


def test_metrics_by_task(dataset: str, tmp_path: Path) -> None:
    results = evaluate_dataset(found, dataset, make_config(tmp_path))
    assert list(results) == ["bbox", "segm", "crack", "instances", "width"]
    metrics = results["crack"]
    for name, value in expected_metrics().items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    for name in ("f1", "iou", "f1_2px", "coverage_mae", "false_alarm_rate", "f1_ods"):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"], name
    instances = results["instances"]
    assert instances["avF1_low"] <= instances["avF1"] <= instances["avF1_high"]
    assert {"AP50_components", "AP50_linked", "AP50_single", "false_splits"} <= instances.keys()
    flat = flatten_results_dict(results)
    assert all(type(value) is float and math.isfinite(value) for value in flat.values())
    assert {"crack/f1", "segm/AP50", "bbox/AP50", "instances/avF1"} <= flat.keys()
    print_csv_format(results)


def test_files(dataset: str, tmp_path: Path) -> None:
    results = evaluate_dataset(found, dataset, make_config(tmp_path))
    folder = tmp_path / "out" / "inference" / NAME
    report = json.loads((folder / "crack_metrics.json").read_text())
    assert report["metrics"] == results["crack"]
    assert report["instances"] == results["instances"]
    assert (report["photos"], report["crack_free_photos"]) == (PHOTOS, 3)
    assert sum(row["share_of_true"] for row in report["by_width_px"].values()) == pytest.approx(1)
    with open(folder / "crack_per_photo.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file_name"]).name for row in rows] == [f"photo{i}.png" for i in range(PHOTOS)]
    pooled = sum(float(row["coverage_error"]) for row in rows) / PHOTOS
    assert pooled == pytest.approx(results["crack"]["coverage_bias"], abs=1e-4)


def test_model_without_a_crack_map(dataset: str, tmp_path: Path) -> None:
    """The best score of any instance, drawn or not, stands in for its map."""
    cfg = make_config(tmp_path)
    with_map = evaluate_dataset(found, dataset, cfg)["crack"]
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    metrics = evaluate_dataset(found, dataset, cfg)["crack"]
    assert metrics["f1"] == with_map["f1"]
    # Only two scores to choose from: all pixels, or the first instance's.
    assert metrics["f1_ods"] == metrics["f1"]
    assert metrics["ods_threshold"] == pytest.approx((230 - 0.5) / 255)


def test_ignored_pixels(tmp_path: Path) -> None:
    """Their upper half ignored, photos are evaluated like photos of their lower half alone."""
    ignored = np.zeros((HEIGHT, WIDTH), bool)
    ignored[: HEIGHT // 2] = True
    register(tmp_path, ignored)
    try:
        metrics = evaluate_dataset(found, NAME, make_config(tmp_path))["crack"]
    finally:
        DatasetCatalog.remove(NAME)
    below = [(truth_of(i), photo_of(i) > 127) for i in range(PHOTOS)]
    below = [(truth & ~ignored, mask & ~ignored) for truth, mask in below]
    for name, value in (reference.strict(below) | reference.tolerant(below)).items():
        assert metrics[name] == pytest.approx(value), name
    errors = [200 * (mask.mean() - truth.mean()) for truth, mask in below]
    assert metrics["coverage_bias"] == pytest.approx(np.mean(errors))


def test_prediction_that_is_mostly_on_ignored_pixels_is_no_false_alarm(tmp_path: Path) -> None:
    ignored = np.ones((HEIGHT, WIDTH), bool)
    ignored[:, :4] = False
    register(tmp_path, ignored)
    try:
        results = evaluate_dataset(found, NAME, make_config(tmp_path))
    finally:
        DatasetCatalog.remove(NAME)
    with open(tmp_path / "out" / "inference" / NAME / "crack_per_photo.csv", newline="") as file:
        assert {row["predicted_instances"] for row in csv.DictReader(file)} == {"0"}
    assert results["instances"]["avF1"] == 0


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


def f1_of_wall(photos: list[Path], masks: list[Path], rows: int, size: int, folder: Path) -> dict:
    """Photos side by side as one wall, evaluated, and its mask by tools/predict.py scored apart.

    Args:
        photos, masks: as many as fill ``rows`` rows, all of one size.
        rows: of the wall.
        size: CRACK.INFERENCE.TILE_SIZE.
        folder: for all files.
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
    command = [sys.executable, "tools/predict.py", "--input", folder / "wall.png"]
    command += ["--output", folder / "predicted", "--tile", size]
    subprocess.run([str(x) for x in command], check=True, cwd=REPO)
    mask = cv2.imread(str(folder / "predicted" / "wall_mask.png"), cv2.IMREAD_GRAYSCALE) > 127
    return {"evaluated": evaluated, "of the mask": reference.strict([(truth, mask)])["f1"]}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("photos", "rows", "size"), [(4, 2, 320), pytest.param(36, 6, 1024, marks=pytest.mark.slow)]
)
def test_wall_is_evaluated_as_users_see_it(
    shared: Path, tmp_path: Path, photos: int, rows: int, size: int
) -> None:
    folder = shared / "data" / "deepcrack_train"
    files = sorted((folder / "images").iterdir())
    files = [file for file in files if cv2.imread(str(file)).shape == (384, 544, 3)][:photos]
    masks = [next((folder / "masks").glob(f"{file.stem}.*")) for file in files]
    f1 = f1_of_wall(files, masks, rows, size, tmp_path)
    assert f1["of the mask"] > 0.5
    assert f1["evaluated"] == pytest.approx(f1["of the mask"], abs=0.002)


def test_several_sets_have_means_beside_them(dataset: str, tmp_path: Path) -> None:
    cfg = make_config(tmp_path)
    cfg.DATASETS.TEST = (dataset,)
    alone = evaluate_datasets(found, cfg)
    assert alone == evaluate_dataset(found, dataset, cfg)
    free = [x for x in DatasetCatalog.get(dataset) if not x["annotations"]]
    DatasetCatalog.register("test_crack_free", lambda: free)
    try:
        cfg.DATASETS.TEST = (dataset, "test_crack_free")
        both = evaluate_datasets(found, cfg)
    finally:
        DatasetCatalog.remove("test_crack_free")
    assert list(both)[:2] == [dataset, "test_crack_free"]
    free_f1 = both["test_crack_free"]["crack"]["f1"]
    assert both["crack"]["f1"] == (alone["crack"]["f1"] + free_f1) / 2
    assert "segm" not in both  # a set without cracks defines no average precision


def test_a_photo_that_is_ignored_wholly_does_not_count(dataset: str, tmp_path: Path) -> None:
    alone = evaluate_dataset(found, dataset, make_config(tmp_path))
    records = DatasetCatalog.get(dataset)
    void = {"annotations": [annotation(np.ones((HEIGHT, WIDTH)), crowd=1)], "image_id": 7}
    DatasetCatalog.register("test_void", lambda: [*records, {**records[0], **void}])
    DatasetCatalog.register("test_only_void", lambda: [{**records[0], **void}])
    try:
        assert evaluate_dataset(found, "test_void", make_config(tmp_path)) == alone
        with pytest.raises(CrackError, match="test_only_void has no photos"):
            evaluate_dataset(found, "test_only_void", make_config(tmp_path))
    finally:
        DatasetCatalog.remove("test_void")
        DatasetCatalog.remove("test_only_void")


def test_nothing_to_evaluate_on(tmp_path: Path) -> None:
    DatasetCatalog.register("test_no_photos", list)
    try:
        with pytest.raises(CrackError, match="test_no_photos has no photos"):
            evaluate_dataset(found, "test_no_photos", make_config(tmp_path))
    finally:
        DatasetCatalog.remove("test_no_photos")


def test_photos_that_do_not_belong(dataset: str, tmp_path: Path) -> None:
    evaluator = CrackEvaluator(dataset, make_config(tmp_path))
    photo = cv2.imread(str(tmp_path / "photo1.png"))
    with pytest.raises(CrackError, match="has no photo with image_id 7"):
        evaluator.process([{"image_id": 7}], [found(photo)])
    with pytest.raises(CrackError, match=r"photo1\.png has 32x23 px, .* says 32x24"):
        evaluator.process([{"image_id": 101}], [found(photo[1:])])


def test_photo_that_is_gone(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "photo3.png").unlink()
    with pytest.raises(CrackError, match=r"photo3\.png"):
        evaluate_dataset(found, dataset, make_config(tmp_path))


def test_what_is_kept_of_a_photo_is_small(dataset: str, tmp_path: Path) -> None:
    """Processes exchange it, and it stays in memory until all photos are through."""
    evaluator = CrackEvaluator(NAME, make_config(tmp_path))
    photo = cv2.imread(str(tmp_path / "photo1.png"))
    for _ in range(2):
        evaluator.reset()
        evaluator.process([{"image_id": 101}], [found(photo)])
    assert len(pickle.dumps(evaluator._photos)) < 10_000
    evaluator.evaluate()
    report = tmp_path / "out" / "inference" / NAME / "crack_metrics.json"
    assert json.loads(report.read_text())["photos"] == 1


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("crack_val", "crack_val"),
        ("../data/my set.json", "data_my_set"),
        ("/abs/x.v2.json", "abs_x_v2"),
    ],
)
def test_folder_name(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def _in_one_of_two_processes(folder: Path) -> None:
    register(folder)
    results = evaluate_dataset(found, NAME, make_config(folder))
    (folder / f"rank{comm.get_rank()}.json").write_text(json.dumps(results))


@pytest.mark.distributed
def test_two_processes_equal_one(dataset: str, tmp_path: Path) -> None:
    alone = evaluate_dataset(found, dataset, make_config(tmp_path))
    launch(_in_one_of_two_processes, 2, dist_url="auto", args=(tmp_path,))
    assert json.loads((tmp_path / "rank0.json").read_text()) == alone
    assert json.loads((tmp_path / "rank1.json").read_text()) == {}
