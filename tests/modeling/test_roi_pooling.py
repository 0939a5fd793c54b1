"""The pooler gives what Detectron2's own gives, backwards too."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

from crack_data.modeling.roi_pooling import BagPooler, use_bag_pooling

STRIDES = (4, 8, 16, 32)
SCALES = [1 / stride for stride in STRIDES]


def _features(photos: int) -> list[torch.Tensor]:
    sizes = [(192 // s, 256 // s) for s in STRIDES]
    return [torch.randn(photos, 8, *size, requires_grad=True) for size in sizes]


def _boxes(count: int) -> Boxes:
    corners = torch.rand(count, 2, 2) * torch.tensor([256.0, 192.0])
    return Boxes(torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1))


@pytest.mark.parametrize("ratio", [1, 2, 3])
@pytest.mark.parametrize("size", [7, 14])
def test_same_as_roi_align(ratio: int, size: int) -> None:
    torch.manual_seed(ratio)
    features, boxes = _features(2), [_boxes(40), _boxes(3)]
    # The whole photo, one pixel, and long boxes along its borders.
    boxes[0].tensor[:4] = torch.tensor(
        [[0, 0, 256, 192], [5, 5, 6, 6], [0, 180, 256, 192], [250.0, 0, 256, 192]]
    )
    pooler = ROIPooler(size, SCALES, ratio, "ROIAlignV2", 64)
    expected, found = pooler(features, boxes), BagPooler(pooler)(features, boxes)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    weight = torch.randn_like(found)
    mine = torch.autograd.grad((found * weight).sum(), features)
    for gradient, other in zip(
        mine, torch.autograd.grad((expected * weight).sum(), features), strict=True
    ):
        torch.testing.assert_close(gradient, other, atol=2e-3, rtol=1e-3)


def test_no_box() -> None:
    pooler = ROIPooler(7, [0.25], 2, "ROIAlignV2")
    found = BagPooler(pooler)([torch.zeros(1, 5, 3, 4)], [Boxes(torch.zeros(0, 4))])
    assert found.shape == (0, 5, 7, 7)


def test_a_model_keeps_its_keys_and_poolers_that_count_samples_by_box() -> None:
    fixed = ROIPooler(7, SCALES, 2, "ROIAlignV2")
    adaptive, unaligned = ROIPooler(7, SCALES, 0, "ROIAlignV2"), ROIPooler(7, SCALES, 2, "ROIAlign")
    model = nn.ModuleDict({"a": fixed, "b": nn.Sequential(adaptive, unaligned, nn.Linear(1, 1))})
    keys = list(model.state_dict())
    use_bag_pooling(model)
    assert [type(x) for x in (model["a"], *model["b"])] == [
        BagPooler, ROIPooler, ROIPooler, nn.Linear
    ]  # fmt: skip
    assert list(model.state_dict()) == keys
