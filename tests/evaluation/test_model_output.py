from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from crack_data.errors import CrackError
from crack_data.evaluation.model_output import check_size, mask_and_map

SIZE = (4, 5)


def instances(*scored_rows: tuple[float, int]) -> Instances:
    """Instances that fill one row of the photo each, with a score."""
    masks = torch.zeros(len(scored_rows), *SIZE, dtype=torch.bool)
    for mask, (_, row) in zip(masks, scored_rows, strict=True):
        mask[row] = True
    found = Instances(SIZE)
    found.scores = torch.tensor([score for score, _ in scored_rows])
    found.pred_masks = masks
    return found


def test_mask_is_the_union_of_instances_at_or_above_the_score() -> None:
    mask, _ = mask_and_map({"instances": instances((0.9, 0), (0.5, 2), (0.49, 3))}, 0.5)
    assert mask.dtype == bool
    assert mask.any(axis=1).tolist() == [True, False, True, False]


def test_map_of_a_model_without_one_is_the_highest_score() -> None:
    _, levels = mask_and_map({"instances": instances((0.2, 1), (0.9, 0), (0.6, 1))}, 0.5)
    assert levels.dtype == np.uint8
    assert levels[:, 0].tolist() == [230, 153, 0, 0]


def test_crack_map_is_rounded_to_levels() -> None:
    crack_map = torch.zeros(SIZE)
    crack_map[0] = torch.tensor([0.0, 1.0, 0.5, 0.4 / 255, 0.6 / 255])
    _, levels = mask_and_map({"instances": instances((0.9, 3)), "crack_map": crack_map}, 0.5)
    assert levels[0].tolist() == [0, 255, 128, 0, 1]
    assert not levels[1:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision_of_the_crack_map_does_not_matter(dtype: torch.dtype) -> None:
    crack_map = torch.full(SIZE, 0.25, dtype=dtype)
    _, levels = mask_and_map({"instances": instances(), "crack_map": crack_map}, 0.5)
    assert (levels == 64).all()


def test_no_instances() -> None:
    mask, levels = mask_and_map({"instances": instances()}, 0.5)
    assert mask.shape == levels.shape == SIZE
    assert not mask.any()
    assert not levels.any()


def test_model_without_masks() -> None:
    found = Instances(SIZE)
    found.pred_boxes = Boxes(torch.zeros(0, 4))
    found.scores = torch.zeros(0)
    with pytest.raises(CrackError, match="MASK_ON"):
        mask_and_map({"instances": found}, 0.5)


def test_size_differs_from_the_dataset() -> None:
    check_size(np.zeros(SIZE, bool), SIZE, "photo.jpg")
    with pytest.raises(CrackError, match=r"photo\.jpg: the prediction is 5x4 px but .* 4x5"):
        check_size(np.zeros(SIZE, bool), (5, 4), "photo.jpg")
