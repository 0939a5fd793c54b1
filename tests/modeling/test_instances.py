"""Components of the crack map, the boxes that vouch for them, and what becomes of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from crack_data.modeling.instances import claim_pixels, find_components
from crack_data.modeling.map_proposals import add_map_proposals

SIZE = (100, 200)


def _map(*cracks: tuple[int, int, int, int], probability: float = 0.9) -> torch.Tensor:
    """A crack map with a filled rectangle XYXY for each crack."""
    drawn = torch.full(SIZE, 0.01)
    for x0, y0, x1, y1 in cracks:
        drawn[y0:y1, x0:x1] = probability
    return drawn


def _detected(*boxes: tuple[float, ...]) -> Instances:
    """Detections (x0, y0, x1, y1, score)."""
    table = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(table[:, :4])
    instances.scores = table[:, 4]
    instances.pred_classes = torch.zeros(len(table), dtype=torch.int64)
    return instances


def _claim(probability: torch.Tensor, detected: Instances, **changes: float) -> dict[str, Any]:
    settings = {"link_threshold": 0.3, "link_gap": 0.0, "threshold": 0.5, "score_threshold": 0.3}
    return claim_pixels(probability, detected, **{**settings, **changes})


LONG = (10, 40, 190, 43)
OTHER = (10, 80, 120, 83)


def test_a_vouched_component_is_one_instance_with_its_own_box() -> None:
    output = _claim(_map(LONG, OTHER), _detected((0, 30, 200, 50, 0.8)))
    instances = output["instances"]
    assert instances.pred_boxes.tensor.tolist() == [list(map(float, LONG))]
    assert instances.pred_masks.sum() == 180 * 3
    assert instances.scores[0].item() == pytest.approx(np.sqrt(0.8 * 0.9))
    assert torch.equal(output["crack_map"] > 0.5, instances.pred_masks[0])


def test_a_crack_runs_on_where_its_box_ends() -> None:
    instances = _claim(_map(LONG), _detected((10, 40, 110, 43, 0.8)))["instances"]
    assert instances.pred_masks.sum() == 180 * 3


def test_a_box_over_a_small_part_vouches_for_nothing() -> None:
    output = _claim(_map(LONG), _detected((10, 40, 40, 43, 0.8)))
    assert len(output["instances"]) == 0
    assert not output["crack_map"].any()


def test_two_boxes_vouch_together() -> None:
    boxes = _detected((10, 40, 60, 43, 0.9), (60, 40, 120, 43, 0.6))
    instances = _claim(_map(LONG), boxes)["instances"]
    assert len(instances) == 1
    # 40 % of the pixels lie under a score of at least 0.6, fewer under 0.9.
    assert instances.scores[0].item() == pytest.approx(np.sqrt(0.6 * 0.9))


def test_one_box_over_two_cracks_gives_two_instances() -> None:
    instances = _claim(_map(LONG, OTHER), _detected((0, 0, 200, 100, 0.8)))["instances"]
    assert len(instances) == 2
    assert instances.scores[0] >= instances.scores[1]


def test_a_faint_instance_keeps_its_mask_but_leaves_no_trace_in_the_map() -> None:
    output = _claim(_map(LONG), _detected((0, 30, 200, 50, 0.05)))
    assert output["instances"].pred_masks.any()
    assert not output["crack_map"].any()


def test_pixels_between_the_thresholds_link_but_are_not_crack() -> None:
    probability = _map((10, 40, 100, 43), (104, 40, 190, 43))
    probability[40:43, 100:104] = 0.4
    instances = _claim(probability, _detected((0, 30, 200, 50, 0.8)))["instances"]
    assert len(instances) == 1
    assert instances.pred_masks.sum() == (90 + 86) * 3


def test_a_coarse_mask_vouches_instead_of_the_box() -> None:
    detected = _detected((0, 0, 200, 100, 0.8))
    detected.pred_masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    detected.pred_masks[0, 35:50] = True
    instances = _claim(_map(LONG, OTHER), detected)["instances"]
    assert instances.pred_boxes.tensor.tolist() == [list(map(float, LONG))]


@pytest.mark.parametrize("detected", [_detected(), _detected((0, 0, 200, 100, 0.9))])
def test_an_empty_map_has_no_instances(detected: Instances) -> None:
    output = _claim(_map(), detected)
    assert output["instances"].pred_masks.shape == (0, *SIZE)
    assert output["instances"].pred_boxes.tensor.shape == (0, 4)
    assert not output["crack_map"].any()


def test_no_detection_no_crack() -> None:
    output = _claim(_map(LONG), _detected())
    assert len(output["instances"]) == 0
    assert not output["crack_map"].any()


def test_a_crack_of_one_pixel_and_one_that_fills_the_photo() -> None:
    for crack in ((7, 9, 8, 10), (0, 0, 200, 100)):
        instances = _claim(_map(crack), _detected((0, 0, 200, 100, 1.0)))["instances"]
        assert instances.pred_boxes.tensor.tolist() == [list(map(float, crack))]


def test_short_components_are_less_sure() -> None:
    found = find_components(_map(LONG, (5, 5, 15, 8)).numpy(), 0.3, 0.0)
    short, long = sorted(found.confidence)
    assert long == pytest.approx(0.9)
    assert short == pytest.approx(0.9 * 10 / 80)


def test_the_map_proposes_its_components() -> None:
    proposals = Instances((90, 190))
    proposals.proposal_boxes = Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    proposals.objectness_logits = torch.tensor([0.5])
    logits = torch.logit(_map(OTHER, (185, 5, 200, 30)))[None]
    (joined,) = add_map_proposals([proposals], logits, 0.3, 0.0)
    boxes = joined.proposal_boxes.tensor.tolist()
    assert boxes[0] == [1.0, 2.0, 3.0, 4.0]
    # The padding beyond 90x190 px proposes nothing.
    assert sorted(boxes[1:]) == [list(map(float, OTHER)), [185.0, 5.0, 190.0, 30.0]]
