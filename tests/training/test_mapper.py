"""What the model gets: a crop, and instances that are connected components again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode

from crack_data.training.mapper import CrackMapper, PhotoUnreadable, find_instances, union_mask
from crack_data.training.sampling import load_records


@pytest.fixture
def cfg(make_config: Callable[..., CfgNode]) -> CfgNode:
    return make_config()


@pytest.fixture
def records(cfg: CfgNode) -> list[dict[str, Any]]:
    return load_records(cfg, cfg.DATASETS.TRAIN)


def test_without_augmentation_the_photo_is_as_annotated(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> None:
    record = records[0]
    mapped = CrackMapper(cfg, augment=False)(record, np.random.default_rng(0))
    photo = cv2.imread(record["file_name"])
    assert cfg.INPUT.FORMAT == "RGB"
    assert np.array_equal(mapped["image"].numpy(), photo[:, :, ::-1].transpose(2, 0, 1))
    assert np.array_equal(mapped["instances"].gt_masks.tensor.any(dim=0), union_mask(record))
    assert (mapped["height"], mapped["width"]) == photo.shape[:2]
    assert mapped["dataset_name"] == cfg.DATASETS.TRAIN[0]


def test_crops_have_connected_instances_in_tight_boxes(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> None:
    mapper = CrackMapper(cfg, augment=True)
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
        assert (masks.sum(dim=0) <= 1).all()  # no pixel belongs to two
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
        augmentation = CrackMapper(cfg, augment=True).augmentation
        assert augmentation is not None
        photo = np.zeros((400, 400, 3), np.uint8)
        crops = [augmentation(photo, mask, np.random.default_rng(seed))[1] for seed in range(40)]
        shown[probability] = sum(bool((crop > 127).any()) for crop in crops)
    assert shown[1.0] >= 38
    assert shown[0.0] <= 20


def test_the_same_generator_gives_the_same_sample(
    cfg: CfgNode, records: list[dict[str, Any]]
) -> None:
    mapper = CrackMapper(cfg, augment=True)
    one, same, other = (mapper(records[0], np.random.default_rng(s)) for s in (5, 5, 6))
    assert torch.equal(one["image"], same["image"])
    assert not torch.equal(one["image"], other["image"])


def test_components_are_split_and_specks_dropped() -> None:
    coverage = np.zeros((40, 40), np.uint8)
    coverage[5, 2:30] = 255
    coverage[20:23, 10:20] = 255
    coverage[35, 35:38] = 255  # 3 px
    instances = find_instances(coverage)
    assert instances.gt_boxes.tensor.tolist() == [[2, 5, 30, 6], [10, 20, 20, 23]]
    assert instances.gt_masks.tensor.sum(dim=(1, 2)).tolist() == [28, 30]


def test_pieces_of_a_faint_crack_are_one_instance() -> None:
    coverage = np.zeros((20, 40), np.uint8)
    coverage[10, 2:38] = 200
    coverage[10, 15:18] = 60  # below what counts as crack, above what links
    instances = find_instances(coverage)
    assert len(instances) == 1
    assert int(instances.gt_masks.tensor.sum()) == 33
    coverage[10, 16] = 20
    assert len(find_instances(coverage)) == 2


@pytest.mark.parametrize("shape", [(1, 1), (16, 16)])
def test_no_crack_is_no_instance(shape: tuple[int, int]) -> None:
    instances = find_instances(np.zeros(shape, np.uint8))
    assert len(instances) == 0
    assert instances.gt_masks.tensor.shape == (0, *shape)
    assert instances.gt_boxes.tensor.shape == (0, 4)


def test_a_photo_of_another_size_is_refused(cfg: CfgNode, records: list[dict[str, Any]]) -> None:
    record = {**records[0], "height": 10}
    with pytest.raises(PhotoUnreadable, match="annotated as"):
        CrackMapper(cfg, augment=True)(record, np.random.default_rng(0))
