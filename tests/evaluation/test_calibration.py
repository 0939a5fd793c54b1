"""Thresholds and intervals that are chosen on labelled photos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image

from crack_data.calibration import Calibration, Interval, calibration_path, read_calibration, spread
from crack_data.datasets import read_photo_of, register_datasets_of
from crack_data.errors import CrackError
from crack_data.evaluation.calibration import (
    CalibrationPhoto,
    calibrate,
    choose_score_threshold,
    fit_interval,
    measure_photos,
    predicted_percent,
    rate_bound,
    unbiased_threshold,
)
from crack_data.inference.predictor import CrackPredictor


def _photos(count: int, rng: np.random.Generator, group: int = 1) -> list[CalibrationPhoto]:
    """Photos of 10,000 px whose maps are unsure by different amounts, and err by as much."""
    photos = []
    for number in range(count):
        sure, doubtful = rng.integers(0, 400), rng.integers(5, 400)
        levels = np.zeros(256, np.int64)
        levels[255], levels[rng.integers(64, 192)] = sure, doubtful
        levels[0] = 10_000 - levels.sum()
        true = (sure + doubtful * rng.uniform()) / 100.0
        photos.append(CalibrationPhoto(str(number // group), true, levels, spread(levels)))
    return photos


@pytest.mark.parametrize("group", [1, 4])
def test_the_interval_holds_what_it_promises_on_other_photos(group: int) -> None:
    """Split at random 30 times: calibrated on one half, 88 to 92 % of the other lie within."""
    rng = np.random.default_rng(0)
    photos = _photos(200 * group, rng, group)
    names = sorted({photo.group for photo in photos})
    held = []
    for _ in range(30):
        chosen = set(rng.permutation(names)[: len(names) // 2])
        interval = fit_interval([x for x in photos if x.group in chosen], 0.5)
        assert interval is not None
        for photo in (x for x in photos if x.group not in chosen):
            low, high = interval.around(predicted_percent(photo.levels, 0.5), photo.spread)
            held.append(low <= photo.true_percent <= high)
    assert 0.88 <= np.mean(held) <= 0.92


def test_sure_photos_get_narrow_intervals() -> None:
    interval = Interval(0.9, -1.0, 1.0)
    sure, unsure = np.zeros(256), np.zeros(256)
    sure[[0, 255]] = 9000, 1000
    unsure[[0, 128]] = 9000, 1000
    narrow, wide = (interval.around(10.0, spread(x)) for x in (sure, unsure))
    assert narrow[1] - narrow[0] < 0.1 < 5 < wide[1] - wide[0]
    assert interval.around(0.0, spread(sure))[0] == 0.0


def test_too_few_photos_give_no_interval() -> None:
    assert fit_interval(_photos(39, np.random.default_rng(0)), 0.5) is None


@pytest.mark.parametrize(
    ("scores", "rate", "alarms"),
    [
        ([0.1, 0.5, 0.9], 0.0, 0),
        ([0.9] * 28 + [0.5] + [0.1] * 71, 0.29, 29),
        ([0.1, 0.5, 0.9], 0.34, 1),
        ([0.0] * 5, 0.02, 0),  # which tell nothing: it stays 0.3
        ([0.7], 0.0, 0),
    ],
)
def test_the_score_threshold_lets_the_wanted_share_pass(
    scores: list[float], rate: float, alarms: int
) -> None:
    threshold = choose_score_threshold(scores, rate)
    assert (sum(x >= threshold for x in scores), any(scores) or threshold == 0.3) == (alarms, True)


def test_the_bound_is_the_exact_one() -> None:
    """No alarm among n photos: the upper 95 % bound is 1 - 0.05 ** (1 / n)."""
    assert rate_bound(0, 50) == pytest.approx(1 - 0.05 ** (1 / 50))
    assert [rate_bound(*counts) for counts in ((0, 0), (3, 3))] == [1.0, 1.0]
    assert 0.02 < rate_bound(1, 50) < 0.1


def test_without_crack_free_photos_there_is_no_score_threshold() -> None:
    with pytest.raises(CrackError, match="crack-free"):
        choose_score_threshold([], 0.02)


@pytest.fixture
def cfg(tiny_crack_config: Callable[[], CfgNode], tmp_path: Path) -> CfgNode:
    """A config for prediction with weights and two photos, both with a crack."""
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    cfg = tiny_crack_config()
    cfg.CRACK.INFERENCE.FAST = "off"
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = -1.0
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "model.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    images, cracks = [], []
    for number in (1, 2):
        Image.new("RGB", (96, 64), "grey").save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 64})
        outline = [[10, 10, 80, 10, 80, 14, 10, 14]]
        ids = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        cracks.append({**ids, "segmentation": outline})
    categories = [{"id": 1, "name": "crack"}]
    document = {"images": images, "annotations": cracks, "categories": categories}
    (tmp_path / "val.json").write_text(json.dumps(document))
    cfg.DATASETS.TEST = (str(tmp_path / "val.json"),)
    register_datasets_of(cfg, ("TEST",))
    return cfg


def test_thresholds_that_the_config_sets_are_kept(cfg: CfgNode) -> None:
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD, cfg.MODEL.CRACK_MAP.THRESHOLD = 0.2, 0.4
    calibration_path(cfg.MODEL.WEIGHTS).write_text("damaged")  # which calibrating again replaces
    found = calibrate(cfg)
    assert (found.score_threshold, found.threshold) == (0.2, 0.4)
    assert (found.crack_free_photos, found.false_alarm_rate, found.false_alarm_bound) == (0, 0, 1)
    assert (found.photos, found.groups, found.interval) == (2, 2, None)


@pytest.fixture
def ignoring(cfg: CfgNode, tmp_path: Path) -> CfgNode:
    """Those photos, the second ignored but for its right half, one crack-free, one all ignored."""
    document = json.loads((tmp_path / "val.json").read_bytes())
    for number, left in ((2, 48), (4, 96)):
        area = [[0, 0, left, 0, left, 64, 0, 64]]
        ids = {"id": 2 + number, "image_id": number, "category_id": 1, "iscrowd": 1}
        document["annotations"].append({**ids, "segmentation": area})
    for number in (3, 4):
        Image.new("RGB", (96, 64), "grey").save(tmp_path / f"{number}.png")
        about = {"id": number, "file_name": f"{number}.png", "width": 96, "height": 64}
        document["images"].append(about)
    (tmp_path / "ignoring.json").write_text(json.dumps(document))
    cfg.DATASETS.TEST = (str(tmp_path / "ignoring.json"),)
    register_datasets_of(cfg, ("TEST",))
    return cfg


def test_ignored_pixels_do_not_count(ignoring: CfgNode) -> None:
    ignoring.MODEL.CRACK_MAP.SCORE_THRESHOLD, ignoring.MODEL.CRACK_MAP.THRESHOLD = 0.0, 0.5
    records = DatasetCatalog.get(ignoring.DATASETS.TEST[0])
    whole, half, free = measure_photos(CrackPredictor(ignoring), records, "")
    assert whole.true_percent == pytest.approx(100 * 70 * 4 / (96 * 64))
    assert half.true_percent == pytest.approx(100 * 32 * 4 / (48 * 64))
    assert (half.levels.sum(), free.levels.sum(), free.true_percent) == (48 * 64, 96 * 64, 0)
    prediction = CrackPredictor(ignoring)(read_photo_of(records[0]))
    assert whole.spread == spread(prediction.levels) != 1.0


@pytest.mark.parametrize(("threshold", "rate"), [(0.0, 1.0), (0.99, 0.0)])
def test_false_alarms_are_those_at_both_thresholds(
    ignoring: CfgNode, threshold: float, rate: float
) -> None:
    keys = ignoring.MODEL.CRACK_MAP
    keys.LINK_THRESHOLD, keys.SCORE_THRESHOLD, keys.THRESHOLD = 0.0, 0.0, threshold
    found = calibrate(ignoring)
    assert (found.photos, found.crack_free_photos, found.false_alarm_rate) == (3, 1, rate)


@pytest.mark.parametrize(
    ("group_by", "groups"), [("", 5), (r"^(\d)", 3), (r"^[12]", 3), (".+", 3), ("none", 5)]
)
def test_photos_of_one_name_are_one_group_by_a_pattern_only(
    cfg: CfgNode, tmp_path: Path, group_by: str, groups: int
) -> None:
    """Photos 1 and 2 of a folder and of another set's, of which a third is in one of them."""
    (tmp_path / "other").mkdir()
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD, cfg.MODEL.CRACK_MAP.THRESHOLD = 0.2, 0.4
    document = json.loads((tmp_path / "val.json").read_bytes())
    document["images"].append({**document["images"][0], "id": 3, "file_name": "3.png"})
    for number in (1, 2, 3):
        Image.new("RGB", (96, 64), "grey").save(tmp_path / "other" / f"{number}.png")
    (tmp_path / "other" / "val.json").write_text(json.dumps(document))
    cfg.DATASETS.TEST = (*cfg.DATASETS.TEST, str(tmp_path / "other" / "val.json"))
    register_datasets_of(cfg, ("TEST",))
    found = calibrate(cfg, group_by)
    assert (found.photos, found.groups) == (5, groups)


def test_a_broken_pattern_is_refused_before_the_work(cfg: CfgNode) -> None:
    cfg.MODEL.WEIGHTS = "none.pth"
    with pytest.raises(CrackError, match="group-by"):
        calibrate(cfg, "(")


@pytest.mark.parametrize(
    ("score", "sentence"), [(-1.0, "choose the score threshold yourself"), (0.99, "finds no crack")]
)
def test_what_cannot_be_calibrated_is_one_sentence(
    cfg: CfgNode, score: float, sentence: str
) -> None:
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = score
    with pytest.raises(CrackError, match=sentence):
        calibrate(cfg)


def test_the_pixel_threshold_has_no_bias() -> None:
    levels = np.zeros(256, np.int64)
    levels[[0, 50, 100, 200]] = 9700, 100, 100, 100
    photos = [CalibrationPhoto("a", 2.0, levels, 1.0), CalibrationPhoto("b", 2.0, levels, 1.0)]
    assert 50 / 255 < unbiased_threshold(photos) < 100 / 255


def test_the_pixel_threshold_is_none_at_which_nothing_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Below LINK_THRESHOLD the map is empty, so that no bias can be mended there."""
    levels = np.zeros(256, np.int64)
    levels[[0, 90, 200]] = 9800, 100, 100
    narrow, wide = (CalibrationPhoto("a", true, levels, 1.0) for true in (3.0, 1.0))
    assert 0.3 <= unbiased_threshold([narrow], 0.3) < 90 / 255
    assert "predicted 1.00 points too small" in caplog.text
    caplog.clear()
    assert 90 / 255 < unbiased_threshold([wide], 0.3) < 200 / 255
    assert not caplog.text


def store(folder: Path, **changed: object) -> tuple[str, Calibration]:
    """A checkpoint and its calibration, some of whose values are changed."""
    weights = folder / "model.pth"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    stored = Calibration(digest, 0.6, 0.45, 0.02, 0.08, 60, 300, 200, Interval(0.9, -1.5, 2.0))
    content = json.loads(stored.to_json()) | changed
    calibration_path(str(weights)).write_text(json.dumps(content))
    return str(weights), stored


def test_it_is_stored_beside_the_checkpoint(tmp_path: Path) -> None:
    assert read_calibration(str(tmp_path / "model.pth")) is None
    weights, stored = store(tmp_path)
    assert read_calibration(weights) == stored
    weights, stored = store(tmp_path, interval=None)
    found = read_calibration(weights)
    assert found is not None
    assert found.interval is None


@pytest.mark.parametrize(
    "changed",
    [
        {"score_threshold": 3}, {"score_threshold": "0.5"}, {"threshold": float("nan")},
        {"threshold": None}, {"interval": 0}, {"interval": {}}, {"interval": [0.9, -1, 1]},
        {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_values_are_named(tmp_path: Path, changed: dict[str, object]) -> None:
    weights, _ = store(tmp_path, **changed)
    with pytest.raises(CrackError, match=r"model\.calibration\.json is damaged"):
        read_calibration(weights)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '"text"', "\x00", "\xff"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    weights, _ = store(tmp_path)
    calibration_path(weights).write_bytes(content.encode("latin-1"))
    with pytest.raises(CrackError, match=r"model\.calibration\.json is damaged"):
        read_calibration(weights)


def test_that_of_another_checkpoint_is_not_used(tmp_path: Path) -> None:
    weights, _ = store(tmp_path)
    Path(weights).write_bytes(b"trained on")
    with pytest.raises(CrackError, match="is of another checkpoint"):
        read_calibration(weights)


def test_a_faint_false_alarm_counts(ignoring: CfgNode, tmp_path: Path) -> None:
    """A pixel threshold of 0.5 draws none of the map, the one that is chosen all of it."""
    Image.new("RGB", (96, 64), "white").save(tmp_path / "1.png")
    keys = ignoring.MODEL.CRACK_MAP
    keys.LINK_THRESHOLD = 0.02  # an untrained map lies around 0.047
    document = json.loads((tmp_path / "ignoring.json").read_bytes())
    for crack in document["annotations"][:2]:
        crack["segmentation"] = [[0, 0, 96, 0, 96, 64, 0, 64]]
    Path(ignoring.DATASETS.TEST[0]).write_text(json.dumps(document))
    found = calibrate(ignoring)
    assert found.threshold < 0.04
    assert found.false_alarm_rate == 0
