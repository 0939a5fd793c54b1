from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor

from crack_data.errors import CrackError
from crack_data.inference.detector import to_detections
from crack_data.inference.predictor import CrackPredictor


@pytest.fixture(scope="module")
def predictor(tiny_cfg: CfgNode) -> CrackPredictor:
    """On Detectron2's own path, which can be compared bit for bit; test_fast.py has the other."""
    cfg = tiny_cfg.clone()
    cfg.CRACK.INFERENCE.FAST = "off"
    return CrackPredictor(cfg)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (70, 100, 3), dtype=np.uint8)


def test_agrees_with_the_model_itself(
    predictor: CrackPredictor, tiny_cfg: CfgNode, photo: np.ndarray
) -> None:
    output = DefaultPredictor(tiny_cfg)(photo)
    prediction = predictor(photo)
    crack_map = output["crack_map"].numpy()
    assert np.array_equal(prediction.probability, np.rint(crack_map * 255))
    # The model compares probabilities, the prediction their 8 bits: half a level may lie between.
    sure = np.abs(crack_map - prediction.threshold) > 0.5 / 255
    union = output["instances"].pred_masks.any(dim=0).numpy()
    assert np.array_equal(prediction.mask[sure], union[sure])
    assert prediction.mask.any()
    scores = [instance.score for instance in prediction.instances]
    assert scores == sorted(scores, reverse=True)


def test_the_map_gives_the_mask_of_any_threshold(
    predictor: CrackPredictor, photo: np.ndarray
) -> None:
    areas = []
    for threshold in (0.0, 0.2, 0.4, 0.6, 1.0):
        prediction = predictor(photo, threshold)
        assert prediction.threshold == threshold
        assert np.array_equal(prediction.mask, prediction.probability > 255 * threshold)
        areas.append(prediction.mask.sum())
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1] == 0


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(
    predictor: CrackPredictor, photo: np.ndarray, threshold: float
) -> None:
    with pytest.raises(CrackError, match="threshold"):
        predictor(photo, threshold)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), dtype=np.uint8),
        np.zeros((5, 5, 4), dtype=np.uint8),
        np.zeros((5, 5, 3), dtype=np.float32),
        np.zeros((0, 5, 3), dtype=np.uint8),
    ],
)
def test_what_is_no_photo_is_refused(predictor: CrackPredictor, image: np.ndarray) -> None:
    with pytest.raises(CrackError, match="a photo is an array"):
        predictor(image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (2000, 1), (33, 31)])
def test_odd_sizes(predictor: CrackPredictor, shape: tuple[int, int]) -> None:
    prediction = predictor(np.full((*shape, 3), 90, dtype=np.uint8))
    assert prediction.probability.shape == prediction.mask.shape == shape


def test_large_photos_are_tiled(tiny_cfg: CfgNode, photo: np.ndarray) -> None:
    cfg = tiny_cfg.clone()
    cfg.CRACK.INFERENCE.MAX_SIZE = cfg.CRACK.INFERENCE.TILE_SIZE = 64
    cfg.CRACK.INFERENCE.TILE_OVERLAP = 20
    predictor = CrackPredictor(cfg)
    sizes: list[tuple[int, ...]] = []
    plain = predictor.detect
    predictor.detect = lambda image: (sizes.append(image.shape), plain(image))[1]
    prediction = predictor(photo)
    assert sizes == [(64, 64, 3)] * 4
    assert prediction.mask.shape == (70, 100)
    assert np.array_equal(prediction.mask, prediction.probability > 255 * prediction.threshold)


def test_no_photo_leaves_a_trace_in_the_next(predictor: CrackPredictor, photo: np.ndarray) -> None:
    first = predictor(photo)
    predictor(photo[:, ::-1].copy(), 0.3)
    again = predictor(photo)
    assert again.instances == first.instances
    assert np.array_equal(again.probability, first.probability)


def test_a_stock_model_predicts_with_its_scores_as_map(
    tiny_stock_config: Callable[[], CfgNode], photo: np.ndarray
) -> None:
    cfg = tiny_stock_config()
    cfg.CRACK.INFERENCE.FAST = "off"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.2
    torch.manual_seed(0)
    predictor = CrackPredictor(cfg)
    output = predictor.detect.predictor(photo)["instances"]  # type: ignore[attr-defined]
    prediction = predictor(photo)
    wanted = output[(output.scores >= 0.2) & output.pred_masks.any(dim=2).any(dim=1)]
    assert prediction.threshold == 0.2
    assert len(prediction.instances) == len(wanted) > 0
    assert np.array_equal(prediction.mask, wanted.pred_masks.any(dim=0).numpy())
    highest = float(output.scores.max())
    assert not predictor(photo, min(1.0, highest + 0.01)).instances


def test_detections_without_any_instance() -> None:
    from detectron2.structures import Boxes, Instances

    nothing = Instances((4, 6))
    nothing.scores = torch.zeros(0)
    nothing.pred_boxes = Boxes(torch.zeros(0, 4))
    nothing.pred_masks = torch.zeros(0, 4, 6, dtype=torch.bool)
    found = to_detections({"instances": nothing}, (4, 6), 0.3)
    assert found.regions == ()
    assert not found.crack_map.any()
