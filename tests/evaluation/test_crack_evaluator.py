from __future__ import annotations

import csv
import json
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, build_detection_test_loader
from detectron2.engine import launch
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.evaluation.testing import flatten_results_dict, print_csv_format
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import nn

from crack_data.config import add_crack_config
from crack_data.errors import CrackError
from crack_data.evaluation import CrackEvaluator
from crack_data.evaluation.crack_evaluator import folder_name
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


class Found(nn.Module):
    """Predicts from the photo's pixels: a crack map, and one instance with all of its pixels."""

    def __init__(self, with_map: bool = True) -> None:
        super().__init__()
        self.with_map = with_map

    def forward(self, inputs: list[dict]) -> list[dict]:
        return [self._predict(photo["image"][0] / 255) for photo in inputs]

    def _predict(self, crack_map: torch.Tensor) -> dict:
        instances = Instances(tuple(crack_map.shape))
        instances.scores = torch.tensor([0.9, 0.1])
        instances.pred_masks = torch.stack([crack_map > 0.5, crack_map >= 0])
        output = {"instances": instances}
        return output | {"crack_map": crack_map} if self.with_map else output


def photo_of(index: int) -> np.ndarray:
    """The grey photo, in which a pixel is as bright as it is likely to be crack."""
    rng = np.random.default_rng(index)
    moved = np.roll(truth_of(index), index % 2, axis=0)
    noise = rng.integers(0, 100 + 60 * (index == 3), moved.shape)
    return np.clip(150 * moved + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    register(tmp_path)
    yield NAME
    DatasetCatalog.remove(NAME)


def register(folder: Path) -> None:
    records = []
    for index in range(PHOTOS):
        path = folder / f"photo{index}.png"
        if not path.exists():
            cv2.imwrite(str(path), cv2.cvtColor(photo_of(index), cv2.COLOR_GRAY2BGR))
        mask = coco_mask.encode(np.asfortranarray(truth_of(index).astype(np.uint8)))
        annotations = [{"segmentation": mask}] if index % 3 else []
        records.append(
            {
                "file_name": str(path),
                "image_id": index + 100,
                "height": HEIGHT,
                "width": WIDTH,
                "annotations": annotations,
            }
        )
    DatasetCatalog.register(NAME, lambda: records)


def make_config(folder: Path) -> CfgNode:
    cfg = get_cfg()
    add_crack_config(cfg)
    cfg.OUTPUT_DIR = str(folder / "out")
    return cfg


def evaluate(cfg: CfgNode, model: nn.Module) -> dict:
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="BGR")
    loader = build_detection_test_loader(
        DatasetCatalog.get(NAME), mapper=mapper, batch_size=2, num_workers=0
    )
    evaluators = DatasetEvaluators([CrackEvaluator(NAME, cfg)])
    return inference_on_dataset(model, loader, evaluators)


def expected_metrics() -> dict[str, float]:
    photos = [
        reference.Photo(truth_of(i), photo_of(i) / np.float32(255) > 0.5, photo_of(i) / 255)
        for i in range(PHOTOS)
    ]
    return reference.metrics(photos)


def test_through_detectron2s_loop(dataset: str, tmp_path: Path) -> None:
    results = evaluate(make_config(tmp_path), Found())
    metrics = results["crack"]
    for name, value in expected_metrics().items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    for name in ("f1", "iou", "f1_2px", "coverage_mae", "false_alarm_rate", "f1_ods"):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"], name
    flat = flatten_results_dict(results)
    assert all(type(value) is float and math.isfinite(value) for value in flat.values())
    assert "crack/f1" in flat
    print_csv_format(results)


def test_files(dataset: str, tmp_path: Path) -> None:
    metrics = evaluate(make_config(tmp_path), Found())["crack"]
    folder = tmp_path / "out" / "inference" / NAME
    report = json.loads((folder / "crack_metrics.json").read_text())
    assert report["metrics"] == metrics
    assert (report["photos"], report["crack_free_photos"]) == (PHOTOS, 3)
    with open(folder / "crack_per_photo.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file_name"]).name for row in rows] == [f"photo{i}.png" for i in range(PHOTOS)]
    pooled = sum(float(row["coverage_error"]) for row in rows) / PHOTOS
    assert pooled == pytest.approx(metrics["coverage_bias"], abs=1e-4)


def test_score_threshold_decides_what_is_drawn(dataset: str, tmp_path: Path) -> None:
    cfg = make_config(tmp_path)
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.05
    metrics = evaluate(cfg, Found())["crack"]
    assert metrics["recall"] == 1  # the second instance covers the whole photo
    assert metrics["false_alarm_rate"] == 1
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.95
    metrics = evaluate(cfg, Found())["crack"]
    assert metrics["recall"] == metrics["f1"] == metrics["false_alarm_rate"] == 0


def test_model_without_a_crack_map(dataset: str, tmp_path: Path) -> None:
    with_map = evaluate(make_config(tmp_path), Found())["crack"]
    metrics = evaluate(make_config(tmp_path), Found(with_map=False))["crack"]
    assert metrics["f1"] == with_map["f1"]
    # Only two scores to choose from: all pixels, or the first instance's.
    assert metrics["f1_ods"] == metrics["f1"]
    assert metrics["ods_threshold"] == pytest.approx((230 - 0.5) / 255)


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
    metrics = evaluate(cfg, build_model(cfg))["crack"]
    assert metrics["recall"] > 0
    assert metrics["f1"] <= metrics["f1_ods"] + 1e-3  # the drawn threshold is among the many


def test_nothing_processed(dataset: str, tmp_path: Path) -> None:
    evaluator = CrackEvaluator(NAME, make_config(tmp_path))
    evaluator.reset()
    with pytest.raises(CrackError, match=f"{NAME} has no photos"):
        evaluator.evaluate()


def test_reset_forgets(dataset: str, tmp_path: Path) -> None:
    evaluator = CrackEvaluator(NAME, make_config(tmp_path), output_dir=str(tmp_path / "here"))
    image = torch.from_numpy(photo_of(1))[None]
    for _ in range(2):
        evaluator.reset()
        evaluator.process([{"image_id": 101}], Found()([{"image": image}]))
    evaluator.evaluate()
    assert json.loads((tmp_path / "here" / "crack_metrics.json").read_text())["photos"] == 1


def test_what_is_kept_of_a_photo_does_not_grow_with_it(dataset: str, tmp_path: Path) -> None:
    """Processes exchange this, and it stays in memory until all photos are through."""
    evaluator = CrackEvaluator(NAME, make_config(tmp_path))
    evaluator.reset()
    image = torch.from_numpy(photo_of(1))[None]
    evaluator.process([{"image_id": 101}], Found()([{"image": image}]))
    assert len(pickle.dumps(evaluator._photos)) < 6_000


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
    results = evaluate(make_config(folder), Found())
    path = folder / f"rank{comm.get_rank()}.json"
    path.write_text(json.dumps(results))


@pytest.mark.distributed
def test_two_processes_equal_one(dataset: str, tmp_path: Path) -> None:
    alone = evaluate(make_config(tmp_path), Found())
    launch(_in_one_of_two_processes, 2, dist_url="auto", args=(tmp_path,))
    together = json.loads((tmp_path / "rank0.json").read_text())
    assert together["crack"] == pytest.approx(alone["crack"], abs=1e-12)
    assert json.loads((tmp_path / "rank1.json").read_text()) == {}
