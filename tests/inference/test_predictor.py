from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor

from crack_data.errors import CrackError
from crack_data.inference.predictor import CrackPredictor
from crack_data.modeling.compiled import CompiledModule
from crack_data.modeling.crack_rcnn import NetworkOutput
from crack_data.modeling.instances import Detection

from .drawn import draw_crack, line


@pytest.fixture(scope="module")
def predictor(tiny_cfg: CfgNode) -> CrackPredictor:
    """In PyTorch, which can be compared bit for bit; noise comes apart into many cracks."""
    cfg = tiny_cfg.clone()
    cfg.MODEL.CRACK_MAP.LINK_THRESHOLD, cfg.MODEL.CRACK_MAP.LINK_GAP = 0.8, 0
    return CrackPredictor(cfg)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (70, 100, 3), dtype=np.uint8)


def test_agrees_with_the_model_itself(predictor: CrackPredictor, photo: np.ndarray) -> None:
    photo = np.ascontiguousarray(photo[:24, :32])
    output = DefaultPredictor(predictor.cfg)(photo)
    prediction = predictor(photo)
    assert isinstance(predictor.predictor, DefaultPredictor)
    crack_map = output["crack_map"].numpy()
    assert np.array_equal(prediction.probability, np.rint(crack_map * 255))
    assert np.array_equal(prediction.mask, output["instances"].pred_masks.any(dim=0).numpy())
    assert len(prediction.instances) == len(output["instances"]) > 1
    scores = [instance.score for instance in prediction.instances]
    assert scores == pytest.approx(output["instances"].scores.tolist())
    for instance, mask in zip(prediction.instances, output["instances"].pred_masks, strict=True):
        x0, y0, x1, y1 = instance.box
        assert np.array_equal(instance.mask, mask[y0:y1, x0:x1].numpy())
        assert instance.area == mask.sum()


def test_what_scores_too_low_is_rejected(predictor: CrackPredictor, photo: np.ndarray) -> None:
    photo = np.ascontiguousarray(photo[:24, :32])
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.MODEL.CRACK_MAP.DETECTOR_FLOOR = 0.01  # or what no box covers has no score at all
    every = CrackPredictor(cfg)(photo)
    assert not every.rejected
    scores = [instance.score for instance in every.instances]
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = float(np.median(scores))
    some = CrackPredictor(cfg)(photo)
    assert 0 < len(some.instances) < len(scores)
    assert [x.score for x in (*some.instances, *some.rejected)] == scores
    assert np.array_equal(some.mask, some.probability > 255 * some.threshold)
    for instance in some.rejected:
        x0, y0, x1, y1 = instance.box
        assert instance.mask.any()
        assert not some.probability[y0:y1, x0:x1][instance.mask].any()


def test_the_log_says_which_weights_are_used(
    tiny_cfg: CfgNode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = tiny_cfg.clone()
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": CrackPredictor(tiny_cfg).model.state_dict()}, cfg.MODEL.WEIGHTS)
    # Detectron2's own loggers pass nothing on once a training has set them up.
    log = logging.getLogger("detectron2")
    log.addHandler(caplog.handler)
    caplog.clear()
    with caplog.at_level("INFO", logger=log.name):
        CrackPredictor(cfg)
    log.removeHandler(caplog.handler)
    assert {x.getMessage() for x in caplog.records} == {
        f"The weights are those of {cfg.MODEL.WEIGHTS}"
    }
    with caplog.at_level("INFO", logger="fvcore"):  # by which a training says what it has saved
        assert logging.getLogger("fvcore.common.checkpoint").isEnabledFor(logging.INFO)


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


@pytest.mark.parametrize(("part", "value"), [("fpn_output2.weight", 1e38), ("running_var", -1.0)])
def test_weights_that_compute_nan_are_refused(
    predictor: CrackPredictor, tmp_path: Path, part: str, value: float
) -> None:
    """They are finite, and what they computed would pass for a photo without cracks."""
    state = {name: x.clone() for name, x in predictor.model.state_dict().items()}
    for name in state:
        if name.endswith(part):
            state[name] = torch.full_like(state[name], value)
    torch.save({"model": state}, tmp_path / "diverged.pth")
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "diverged.pth")
    with pytest.raises(CrackError, match=r"diverged\.pth computes values that are no numbers"):
        CrackPredictor(cfg)


@pytest.mark.parametrize("device", ["cudaa", "CUDA", "cuda:one", ""])
def test_an_unknown_device_is_refused(predictor: CrackPredictor, device: str) -> None:
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    with pytest.raises(CrackError, match=f"MODEL.DEVICE {device} cannot be used; take cpu or"):
        CrackPredictor(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_without_a_gpu_the_cpu_predicts(predictor: CrackPredictor, device: str) -> None:
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    assert CrackPredictor(cfg).cfg.MODEL.DEVICE == "cpu"


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), dtype=np.uint8),
        np.zeros((5, 5, 4), dtype=np.uint8),
        np.zeros((5, 5, 3), dtype=np.float32),
    ],
)
def test_what_is_no_photo_is_refused(predictor: CrackPredictor, image: np.ndarray) -> None:
    with pytest.raises(CrackError, match="a photo is an array"):
        predictor(image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (2000, 1), (33, 31)])
def test_odd_sizes(predictor: CrackPredictor, shape: tuple[int, int]) -> None:
    prediction = predictor(np.full((*shape, 3), 90, dtype=np.uint8))
    assert prediction.probability.shape == prediction.mask.shape == shape


def test_large_photos_are_tiled(tiny_cfg: CfgNode) -> None:
    """A crack through four tiles is one, as in the whole photo."""
    cfg = tiny_cfg.clone()
    cfg.CRACK.INFERENCE.TILE_SIZE, cfg.CRACK.INFERENCE.TILE_OVERLAP = 64, 20
    predictor = CrackPredictor(cfg)
    sizes: list[tuple[int, ...]] = []
    look = predictor.model.run_network

    def dark_is_crack(batch: list[dict[str, Any]]) -> list[NetworkOutput]:
        sizes.append(tuple(batch[0]["image"].shape))
        (found,) = look(batch)
        level = 255 - batch[0]["image"][0].numpy()
        height, width = level.shape
        return [NetworkOutput(level, [Detection(0.9, (0, 0, width, height)), *found.detections])]

    predictor.model.run_network = dark_is_crack
    photo = np.full((100, 100, 3), 250, np.uint8)
    photo[draw_crack(line((50.2, 50.3), 130, 40), 3, (100, 100))] = 10
    prediction = predictor(photo)
    assert sizes == [(3, 64, 64)] * 5  # four tiles and the overview
    (crack,) = prediction.instances
    assert crack.area == (photo[..., 0] == 10).sum()
    assert np.array_equal(prediction.mask, photo[..., 0] == 10)
    assert np.array_equal(prediction.mask, prediction.probability > 255 * prediction.threshold)


def test_as_many_rejected_as_asked_for(tiny_cfg: CfgNode) -> None:
    cfg = tiny_cfg.clone()
    cfg.MODEL.CRACK_MAP.LINK_GAP, cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0, 1.0
    predictor = CrackPredictor(cfg)
    level = np.zeros((100, 100), np.uint8)
    level[4::9, 4::9] = 200  # 121 specks
    found = NetworkOutput(level, [Detection(0.9, (0, 0, 100, 100))])
    predictor.model.run_network = lambda _: [found]
    photo = np.zeros((100, 100, 3), np.uint8)
    assert [len(predictor(photo, most=most).rejected) for most in (100, 7, None)] == [100, 7, 121]


def test_the_model_is_compiled_unless_told_otherwise(
    predictor: CrackPredictor, photo: np.ndarray
) -> None:
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.CRACK.INFERENCE.FAST, cfg.CRACK.INFERENCE.PRECISION = "auto", "fp32"
    compiled = CrackPredictor(cfg)
    assert isinstance(compiled.model.roi_heads.box_head, CompiledModule)
    assert not isinstance(predictor.model.roi_heads.box_head, CompiledModule)
    difference = compiled(photo).probability.astype(int) - predictor(photo).probability
    assert np.abs(difference).max() <= 1
    cfg.CRACK.INFERENCE.FAST = "yes"
    with pytest.raises(CrackError, match=r"CRACK\.INFERENCE\.FAST is 'yes'; use auto or off"):
        CrackPredictor(cfg)


def test_no_photo_leaves_a_trace_in_the_next(predictor: CrackPredictor, photo: np.ndarray) -> None:
    first = predictor(photo)
    predictor(photo[:, ::-1].copy(), 0.3)
    again = predictor(photo)
    assert [x.box for x in again.instances] == [x.box for x in first.instances]
    assert np.array_equal(again.probability, first.probability)


def test_a_stock_model_predicts_with_its_scores_as_map(
    tiny_stock_config: Callable[[], CfgNode], photo: np.ndarray
) -> None:
    cfg = tiny_stock_config()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.2
    torch.manual_seed(0)
    predictor = CrackPredictor(cfg)
    output = predictor.predictor(photo)["instances"]
    prediction = predictor(photo)
    drawn = output[output.pred_masks.any(dim=2).any(dim=1)]
    wanted = drawn[drawn.scores >= 0.2]
    assert prediction.threshold == 0.2
    assert len(prediction.instances) == len(wanted) > 0
    assert len(prediction.rejected) == len(drawn) - len(wanted)
    assert np.array_equal(prediction.mask, prediction.probability > 0)
    assert np.array_equal(prediction.mask, wanted.pred_masks.any(dim=0).numpy())
    highest = float(output.scores.max())
    assert not predictor(photo, min(1.0, highest + 0.01)).instances
