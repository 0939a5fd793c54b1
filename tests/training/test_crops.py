"""What the model gets: a crop, and in it the instances that the data set holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from pycocotools import mask as coco_mask

from crack_data.errors import CrackError
from crack_data.modeling.crack_map_head import IGNORED
from crack_data.segmentation import union_mask
from crack_data.training.augmentation import CropPlan, crop_mask, draw_plan
from crack_data.training.data import (
    CrackMapper,
    crop_truth,
    ignore_rim,
    load_records,
    to_instances,
    truth_of,
)


@pytest.fixture
def cfg(make_config: Callable[..., CfgNode]) -> CfgNode:
    return make_config()


@pytest.fixture
def records(cfg: CfgNode) -> list[dict[str, Any]]:
    return load_records(cfg)


def test_without_augmentation_the_photo_is_as_annotated(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> None:
    record = records[0]
    cfg.CRACK.AUG.ENABLED = False
    mapped = CrackMapper(cfg)(record, np.random.default_rng(0))
    photo = cv2.imread(record["file_name"])
    assert cfg.INPUT.FORMAT == "RGB"
    assert np.array_equal(mapped["image"].numpy(), photo[:, :, ::-1].transpose(2, 0, 1))
    assert np.array_equal(mapped["instances"].gt_masks.tensor.any(dim=0), union_mask(record))
    assert (mapped["height"], mapped["width"]) == photo.shape[:2]
    assert mapped["dataset_name"] == cfg.DATASETS.TRAIN[0]


def test_crops_have_instances_in_tight_boxes(cfg: CfgNode, records: list[dict[str, Any]]) -> None:
    mapper = CrackMapper(cfg)
    found = 0
    for seed in range(60):
        mapped = mapper(records[seed % len(records)], np.random.default_rng(seed))
        assert mapped["image"].shape == (3, 64, 64)
        instances = mapped["instances"]
        masks = instances.gt_masks.tensor
        assert masks.shape == (len(instances), 64, 64)
        assert torch.equal(
            instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor
        )
        assert (instances.gt_classes == 0).all()
        found += len(instances)
    assert found > 30


def test_crack_crop_probability(make_config: Callable[..., CfgNode], data: Any) -> None:
    """A photo whose crack fills one corner: crops on the crack show it, others mostly do not."""
    mask = np.zeros((400, 400), np.uint8)
    mask[5:8, 5:60] = 1
    shown = {}
    for probability in (0.0, 1.0):
        cfg = make_config("CRACK.AUG.CRACK_CROP_PROB", probability)
        plans = [draw_plan(mask, np.random.default_rng(s), cfg.CRACK.AUG) for s in range(40)]
        shown[probability] = sum(bool((crop_mask(mask, plan) > 127).any()) for plan in plans)
    assert shown[1.0] >= 38
    assert shown[0.0] <= 20


def test_the_same_generator_gives_the_same_sample(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> None:
    mapper = CrackMapper(cfg)
    one, same, other = (mapper(records[0], np.random.default_rng(s)) for s in (5, 5, 6))
    assert torch.equal(one["image"], same["image"])
    assert not torch.equal(one["image"], other["image"])


SIZE = 100
GAP = 12.0


def _record(*masks: np.ndarray, ignored: np.ndarray | None = None) -> dict[str, Any]:
    annotations = [{"segmentation": _rle(mask), "iscrowd": 0} for mask in masks]
    if ignored is not None:
        annotations.append({"segmentation": _rle(ignored), "iscrowd": 1})
    return {"height": SIZE, "width": SIZE, "annotations": annotations}


def _rle(mask: np.ndarray) -> dict[str, Any]:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def _mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Rectangles x0, y0, x1, y1 in a photo of SIZE x SIZE px."""
    mask = np.zeros((SIZE, SIZE), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def _plan(size: int = SIZE, scale: float = 1.0, centre: float = (SIZE - 1) / 2) -> CropPlan:
    return CropPlan(scale, 0.0, False, (centre, centre), size, reflect=False)


def _sizes(record: dict[str, Any], plan: CropPlan) -> list[int]:
    masks, _ = crop_truth(truth_of(record, GAP), plan, GAP)
    return sorted(int(mask.sum()) for mask in masks)


def test_crossing_cracks_that_are_labelled_apart_stay_two() -> None:
    level, upright = _mask((10, 50, 90, 53)), _mask((50, 10, 53, 90))
    assert _sizes(_record(level, upright), _plan()) == [240, 240]
    assert _sizes(_record(level | upright), _plan()) == [471]


def test_cracks_that_touch_and_are_labelled_apart_stay_two() -> None:
    assert _sizes(_record(_mask((10, 50, 50, 53)), _mask((50, 50, 90, 53))), _plan()) == [120, 120]


@pytest.mark.parametrize(("gap", "number"), [(4, 1), (30, 2)])
def test_pieces_of_one_crack_are_one_within_the_linking_gap(gap: int, number: int) -> None:
    """A hairpin bend: the crop holds two ends, near to each other or far apart."""
    hairpin = _mask((10, 20, 95, 23), (92, 20, 95, 26 + gap), (10, 23 + gap, 95, 26 + gap))
    assert len(_sizes(_record(hairpin), _plan())) == 1
    assert len(_sizes(_record(hairpin), _plan(size=64, centre=36.0))) == number


def test_one_instance_of_far_pieces_by_the_data_sets_decision_stays_one() -> None:
    pieces = _mask((5, 5, 40, 9), (60, 80, 95, 84))
    assert _sizes(_record(pieces), _plan()) == [280]
    assert len(_sizes(_record(pieces), _plan(size=90))) == 1


def test_a_crack_thinner_than_a_pixel_hangs_together_and_is_ignored_where_it_vanishes() -> None:
    line = _mask((5, 50, 95, 51))
    _, target = crop_truth(truth_of(_record(line), GAP), _plan(size=40, scale=0.4), GAP)
    assert (target == IGNORED).any() or (target == 1).any()
    assert set(np.unique(target)) <= {0, 1, IGNORED}


def test_specks_are_no_instances_but_crack_all_the_same() -> None:
    record = _record(_mask((10, 50, 90, 53)), _mask((10, 80, 13, 81)))
    masks, target = crop_truth(truth_of(record, GAP), _plan(), GAP)
    assert [int(mask.sum()) for mask in masks] == [240]
    assert int((target == 1).sum()) == 243


def test_ignored_pixels_are_no_instance_and_do_not_count() -> None:
    record = _record(_mask((10, 50, 90, 53)), ignored=_mask((0, 0, 100, 20)))
    masks, target = crop_truth(truth_of(record, GAP), _plan(), GAP)
    assert [int(mask.sum()) for mask in masks] == [240]
    assert int((target == IGNORED).sum()) == 2000


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flip", [False, True])
def test_labels_turn_with_the_photo(turns: int, flip: bool) -> None:
    record = _record(_mask((10, 20, 40, 26)), _mask((60, 70, 90, 76)), _mask((10, 70, 30, 78)))
    plan = CropPlan(1.0, 90.0 * turns, flip, (49.5, 49.5), SIZE, reflect=True)
    assert _sizes(record, plan) == [160, 180, 180]


@pytest.mark.parametrize("shape", [(1, 1), (16, 16)])
def test_no_crack_is_no_instance(shape: tuple[int, int]) -> None:
    instances = to_instances([], shape)
    assert len(instances) == 0
    assert instances.gt_masks.tensor.shape == (0, *shape)
    assert instances.gt_boxes.tensor.shape == (0, 4)


def test_a_photo_of_another_size_is_refused(cfg: CfgNode, records: list[dict[str, Any]]) -> None:
    record = {**records[0], "height": 10}
    with pytest.raises(CrackError, match=r"train_01\.png has 96x72 px, but its data set says"):
        CrackMapper(cfg)(record, np.random.default_rng(0))


def test_the_rim_of_a_label_does_not_count() -> None:
    target = np.zeros((9, 9), np.uint8)
    target[2:7, 1:9] = 1  # 5 px wide, up to the crop's edge
    ignore_rim(target, width=1.0)
    assert (target[3:6, 2:9] == 1).all()
    assert (target == IGNORED).sum() == 5 * 8 - 3 * 7
    unchanged = target.copy()
    ignore_rim(target, width=0.0)
    assert (target == unchanged).all()


@pytest.mark.parametrize("enabled", [True, False])
def test_rims_are_left_out_with_and_without_augmentation(
    make_config: Callable[..., CfgNode], records: list[dict[str, Any]], enabled: bool
) -> None:
    keys = ("CRACK.AUG.ENABLED", enabled, "CRACK.AUG.CRACK_CROP_PROB", 1.0)
    mapper = CrackMapper(make_config("CRACK.LABEL_RIMS", [1.0], *keys))
    target = mapper(records[0], np.random.default_rng(0))["sem_seg"]
    assert (target == IGNORED).any()
