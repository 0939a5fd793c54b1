"""What is evaluated, and what is written about it."""

from __future__ import annotations

import csv
import json
import math
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.evaluation.testing import flatten_results_dict, print_csv_format

from crack_data.datasets import folder_name
from crack_data.errors import CrackError
from crack_data.evaluation.evaluator import CrackEvaluator, evaluate_dataset, evaluate_datasets
from tests.evaluation import reference
from tests.evaluation.drawn_set import (
    HEIGHT,
    NAME,
    PHOTOS,
    WIDTH,
    annotation,
    found,
    make_config,
    photo_of,
    register,
    truth_of,
)


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
        ("d/\u6865.json", "d_\u6865"),
    ],
)
def test_folder_name(name: str, folder: str) -> None:
    assert folder_name(name) == folder
