"""Cracks of the crack map, the boxes that cover them, and their scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from crack_data.modeling.instances import (
    Detection,
    add_map_proposals,
    find_components,
    to_detections,
)

SIZE = (100, 200)
LONG = (10, 40, 190, 43)
OTHER = (10, 80, 120, 83)
SURE = 230 / 255


def _map(*cracks: tuple[int, int, int, int], level: int = 230) -> np.ndarray:
    """A crack map with a filled rectangle XYXY for each crack."""
    drawn = np.full(SIZE, 2, np.uint8)
    for x0, y0, x1, y1 in cracks:
        drawn[y0:y1, x0:x1] = level
    return drawn


def _box(x0: int, y0: int, x1: int, y1: int, score: float) -> Detection:
    return Detection(score, (x0, y0, x1, y1))


def _settings(link_gap: float = 0.0, floor: float = 0.0) -> CfgNode:
    return CfgNode({"LINK_THRESHOLD": 0.3, "LINK_GAP": link_gap, "DETECTOR_FLOOR": floor})


def _scores(probability: np.ndarray, *detections: Detection, floor: float = 0.0) -> list[float]:
    settings = _settings(floor=floor)
    return find_components(probability, settings).scores(detections, settings).tolist()


@pytest.mark.parametrize(
    ("boxes", "detector"),
    [
        ([(0, 30, 200, 50, 0.8)], 0.8),
        # A crack runs on where its box ends.
        ([(10, 40, 110, 43, 0.8)], 0.8),
        # A box over a small part says nothing.
        ([(10, 40, 40, 43, 0.8)], 0.0),
        # Two boxes together: 40 % of the pixels lie under a score of at least 0.6.
        ([(10, 40, 60, 43, 0.9), (60, 40, 120, 43, 0.6)], 0.6),
        # The better of two boxes over the same pixels, in either order.
        ([(0, 0, 200, 100, 0.3), (0, 0, 200, 100, 0.7)], 0.7),
        ([(0, 0, 200, 100, 0.7), (0, 0, 200, 100, 0.3)], 0.7),
        ([], 0.0),
    ],
)
def test_the_score_is_the_geometric_mean_of_detector_and_map(
    boxes: list[tuple[int, int, int, int, float]], detector: float
) -> None:
    (score,) = _scores(_map(LONG), *(_box(*x) for x in boxes))
    assert score == pytest.approx(np.sqrt(detector * SURE))


def test_scores_are_those_of_a_plain_computation() -> None:
    rng = np.random.default_rng(0)
    probability = np.kron(rng.random((20, 40)) < 0.3, np.ones((5, 5))).astype(np.uint8) * 200
    corners = np.sort(rng.integers(0, 101, (12, 2, 2)), axis=2)
    found = [_box(2 * x0, y0, 2 * x1, y1, s) for ((x0, x1), (y0, y1)), s in
             zip(corners.tolist(), rng.random(12).tolist(), strict=True)]  # fmt: skip
    components = find_components(probability, _settings())
    painted = np.zeros(SIZE)
    for detection in found:
        x0, y0, x1, y1 = detection.box
        painted[y0:y1, x0:x1] = np.maximum(painted[y0:y1, x0:x1], detection.score)
    scores = components.scores(found, _settings())
    assert len(scores) > 20
    for index, score in enumerate(scores):
        under = np.sort(painted[components.labels == index + 1])[::-1]
        detector = under[int(0.4 * (len(under) - 1))]
        assert score == pytest.approx(np.sqrt(detector * components.confidence[index]))


def test_a_floor_keeps_what_the_map_is_sure_of() -> None:
    faint, sure = (_map(LONG, level=level) for level in (120, 250))
    for probability, level in ((faint, 120), (sure, 250)):
        assert _scores(probability) == [0]
        (score,) = _scores(probability, floor=0.5)
        assert score == pytest.approx(np.sqrt(0.5 * level / 255))
    # What a detection covers anyway is not changed.
    covered = _box(0, 0, 200, 100, 0.8)
    assert _scores(sure, covered, floor=0.5) == _scores(sure, covered)


def test_a_coarse_mask_covers_instead_of_its_box() -> None:
    mask = np.zeros((100, 200), bool)
    mask[35:50] = True
    scores = _scores(_map(LONG, OTHER), Detection(0.8, (0, 0, 200, 100), mask))
    assert scores == pytest.approx([np.sqrt(0.8 * SURE), 0.0])


@pytest.mark.parametrize("detections", [[], [_box(0, 0, 200, 100, 0.9)]])
def test_an_empty_map_has_no_cracks(detections: list[Detection]) -> None:
    components = find_components(_map(), _settings(12))
    assert components.boxes.shape == (0, 4)
    assert components.scores(detections, _settings()).shape == (0,)
    assert not components.claimed(_map(), np.zeros(0, bool)).any()


@pytest.mark.parametrize("crack", [(7, 9, 8, 10), (0, 0, 200, 100)])
def test_one_pixel_and_the_whole_photo(crack: tuple[int, int, int, int]) -> None:
    components = find_components(_map(crack), _settings(12))
    assert components.boxes.tolist() == [list(crack)]
    assert (components.labels == 1).sum() == (crack[2] - crack[0]) * (crack[3] - crack[1])


def test_pieces_across_a_gap_are_one_crack() -> None:
    pieces = _map((10, 40, 100, 43), (108, 40, 190, 43), OTHER)
    apart, linked = (find_components(pieces, _settings(gap)) for gap in (0, 12))
    assert len(apart.boxes) == 3
    assert linked.boxes.tolist() == [[10, 40, 190, 43], [10, 80, 120, 83]]
    assert linked.confidence == pytest.approx([SURE, SURE])
    assert np.array_equal(linked.labels > 0, pieces > 2)
    scores = linked.scores([_box(0, 30, 120, 50, 0.8)], _settings())
    assert scores[0] == pytest.approx(np.sqrt(0.8 * SURE))


def test_short_cracks_are_less_sure() -> None:
    confidence = find_components(_map(LONG, (5, 5, 15, 8)), _settings()).confidence
    assert sorted(confidence) == pytest.approx([SURE * 10 / 80, SURE])


def test_the_map_keeps_what_is_drawn() -> None:
    probability = _map(LONG, OTHER)
    components = find_components(probability, _settings())
    kept = components.claimed(probability, np.array([False, True]))
    assert np.array_equal(kept > 0, components.labels == 2)
    assert kept.max() == 230


@pytest.mark.parametrize("masks", [False, True])
def test_detections_of_detectron2(masks: bool) -> None:
    given = Instances(SIZE)
    given.pred_boxes = Boxes(torch.tensor([[10.0, 20, 110, 60], [150, 90, 200, 100]]))
    given.scores = torch.tensor([0.75, 0.5])
    if masks:
        given.pred_masks = torch.zeros(2, *SIZE, dtype=torch.bool)
        given.pred_masks[0, 25:50, 20:100] = True
    first, second = to_detections(given)
    assert (first.score, second.score) == (0.75, 0.5)
    if masks:
        assert first.box == (20, 25, 100, 50)
        assert first.mask is not None
        assert second.mask is not None
        assert first.mask.all()
        assert not second.mask.any()
    else:
        # Each side moves out by 5 %, within the photo.
        assert (first.box, second.box) == ((5, 18, 115, 62), (147, 89, 200, 100))


def test_the_map_proposes_its_cracks() -> None:
    proposals = Instances((90, 190))
    proposals.proposal_boxes = Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    proposals.objectness_logits = torch.tensor([0.5])
    probability = _map(OTHER, (185, 5, 200, 30))
    (joined,), (found,) = add_map_proposals([proposals], probability[None], _settings())
    boxes = joined.proposal_boxes.tensor.tolist()
    assert boxes[0] == [1.0, 2.0, 3.0, 4.0]
    assert len(found.boxes) == 2
    # The padding beyond 90x190 px proposes nothing.
    assert sorted(boxes[1:]) == [list(map(float, OTHER)), [185.0, 5.0, 190.0, 30.0]]
