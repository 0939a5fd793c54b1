"""The meta-architecture: losses, outputs, and that it can learn a crack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from crack_data.modeling.crack_map_head import crack_map_loss


def _photo_with_crack(height: int, width: int, row: int) -> dict[str, Any]:
    """A grey photo with one dark line, 3 px wide, and its truth."""
    image = torch.full((3, height, width), 160, dtype=torch.uint8)
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[0, row : row + 3, 8 : width - 8] = True
    image[:, mask[0]] = 40
    truth = Instances((height, width))
    truth.gt_boxes = Boxes(torch.tensor([[8.0, row, width - 8, row + 3]]))
    truth.gt_classes = torch.zeros(1, dtype=torch.int64)
    truth.gt_masks = BitMasks(mask)
    return {"image": image, "instances": truth, "height": height, "width": width}


@pytest.mark.parametrize("name", ["crack_mobilenet.yaml", "comparison/crack_mobilenet_stages.yaml"])
def test_it_learns_one_crack(tiny_crack_config: Callable, name: str) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_crack_config(name)).train()
    batch = [_photo_with_crack(64, 96, 20), _photo_with_crack(96, 64, 50)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    with EventStorage():
        for _ in range(25):
            losses = model(batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append(losses["loss_crack_map"].item())
    assert set(losses) == {
        "loss_crack_map", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg",
    }  # fmt: skip
    assert history[-1] < 0.5 * history[0]


def test_outputs_have_the_photos_size_and_agree(tiny_crack_config: Callable) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_crack_config()).eval()
    settings = model.settings
    settings.SCORE_THRESHOLD = 0.0
    # An untrained map lies around the prior, sigmoid(-3) = 0.047.
    settings.LINK_THRESHOLD = settings.THRESHOLD = 0.04
    # The network sees 50x70, an odd size that needs padding; the photo is 100x140.
    given = {"image": torch.zeros(3, 50, 70, dtype=torch.uint8), "height": 100, "width": 140}
    with torch.no_grad():
        (output,) = model([given])
    instances, crack_map = output["instances"], output["crack_map"]
    assert crack_map.shape == (100, 140)
    assert crack_map.dtype == torch.float32
    assert instances.pred_masks.shape == (len(instances), 100, 140)
    assert len(instances) > 0
    union = instances.pred_masks.any(dim=0)
    assert union.any()
    assert torch.equal(union, crack_map > settings.THRESHOLD)
    corners = instances.pred_boxes.tensor[0].int().tolist()
    rows, columns = instances.pred_masks[0].nonzero(as_tuple=True)
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert corners == [int(x) for x in tight]
    assert (instances.scores[:-1] >= instances.scores[1:]).all()


def test_what_scores_too_low_is_in_the_instances_and_not_in_the_map(
    tiny_crack_config: Callable,
) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_crack_config()).eval()
    model.settings.LINK_THRESHOLD = model.settings.THRESHOLD = 0.04
    for threshold in (0.99, -1.0):  # of its own the model has 0.3
        model.settings.SCORE_THRESHOLD = threshold
        with torch.no_grad():
            (output,) = model([{"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}])
        assert len(output["instances"]) > 0
        assert output["instances"].scores.max() < 0.3
        assert not output["crack_map"].any()


def test_a_mask_branch_can_cut_instead_of_the_box(tiny_crack_config: Callable) -> None:
    cfg = tiny_crack_config()
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 16
    model = build_model(cfg)
    batch = [_photo_with_crack(64, 64, 20)]
    with EventStorage():
        assert "loss_mask" in model.train()(batch)
    with torch.no_grad():
        (output,) = model.eval()(batch)
    assert output["instances"].pred_masks.dtype == torch.bool


def test_a_photo_without_cracks_trains(tiny_crack_config: Callable) -> None:
    photo = _photo_with_crack(64, 64, 20)
    photo["instances"] = photo["instances"][torch.zeros(1, dtype=torch.bool)]
    model = build_model(tiny_crack_config()).train()
    with EventStorage():
        losses = model([photo, photo])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_the_loss_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 7)).astype(np.float32)
    target = (rng.random((2, 5, 7)) < 0.3).astype(np.float32)
    weight = (rng.random((2, 5, 7)) < 0.9).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    bce = -(weight * (target * np.log(p) + (1 - target) * np.log(1 - p))).sum() / weight.sum()
    both, all_pixels = (p * target * weight).sum(), ((p + target) * weight).sum()
    expected = bce + 1 - (2 * both + 1) / (all_pixels + 1)
    tensors = (torch.from_numpy(x) for x in (logits, target, weight))
    assert float(crack_map_loss(*tensors)) == pytest.approx(expected, rel=1e-5)
