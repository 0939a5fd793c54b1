"""The fast path gives what Detectron2's own path gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from crack_data.errors import CrackError
from crack_data.inference.detector import DefaultDetector
from crack_data.inference.fast import FastDetector, accelerate, can_accelerate, choose_precision
from crack_data.inference.predictor import CrackPredictor
from crack_data.synthetic import draw_photo


def _settle(model) -> None:
    """Statistics of BatchNorm from a photo, so that an untrained model's activations vary."""
    model.train()
    image = torch.from_numpy(draw_photo(0).image).permute(2, 0, 1)
    with torch.no_grad():
        for _ in range(20):
            model.backbone(model.preprocess_image([{"image": image}]).tensor)
    model.eval()


@pytest.mark.parametrize("kind", ["stock", "light", "lite0"])
def test_same_outputs_in_fp32(kind: str, tiny_stock_config, tiny_crack_config) -> None:
    cfg = {
        "stock": tiny_stock_config,
        "light": tiny_crack_config,
        "lite0": lambda: tiny_crack_config("crack_efficientnet_lite.yaml"),
    }[kind]()
    cfg.CRACK.INFERENCE.PRECISION = "fp32"
    # An untrained map hovers around its prior of .047: this cuts it into many instances.
    cfg.MODEL.CRACK_MAP.LINK_THRESHOLD = cfg.MODEL.CRACK_MAP.THRESHOLD = 0.0475
    torch.manual_seed(1)
    model = build_model(cfg)
    _settle(model)
    fast = accelerate(model, cfg)
    # Sizes that need padding and that do not, and a photo larger than the network's input.
    for height, width in ((96, 128), (75, 110), (200, 64)):
        image = torch.from_numpy(draw_photo(3, height=200, width=200).image[:height, :width].copy())
        given = {"image": image.permute(2, 0, 1), "height": 2 * height, "width": 2 * width}
        with torch.no_grad():
            expected = model([given])[0]
        found = fast([given])[0]
        for name in ("scores", "pred_classes"):
            torch.testing.assert_close(
                found["instances"].get(name), expected["instances"].get(name), atol=1e-3, rtol=0
            )
        masks = expected["instances"].pred_masks
        assert len(masks) > 0
        assert (found["instances"].pred_masks != masks).float().mean() < 1e-3
        if "crack_map" in expected:
            torch.testing.assert_close(found["crack_map"], expected["crack_map"], atol=1e-3, rtol=0)


def test_detector_gives_the_same_regions(tiny_crack_config) -> None:
    cfg = tiny_crack_config()
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.CRACK.INFERENCE.PRECISION = "fp32"
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.05
    cfg.MODEL.CRACK_MAP.LINK_THRESHOLD = 0.046
    plain = DefaultDetector(cfg)
    _settle(plain.predictor.model)
    image = draw_photo(5).image
    expected = plain(image)
    found = FastDetector(plain, cfg)(image)
    assert len(expected.regions) > 0
    assert len(found.regions) == len(expected.regions)
    for a, b in zip(found.regions, expected.regions, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-3)
    np.testing.assert_allclose(found.crack_map, expected.crack_map, atol=1e-3)


def test_predictor_takes_the_fast_path_only_when_told(tiny_crack_config) -> None:
    cfg = tiny_crack_config()
    assert isinstance(CrackPredictor(cfg).detect, FastDetector)
    cfg.CRACK.INFERENCE.FAST = "off"
    assert isinstance(CrackPredictor(cfg).detect, DefaultDetector)
    cfg.CRACK.INFERENCE.FAST = "yes"
    with pytest.raises(CrackError, match=r"CRACK\.INFERENCE\.FAST is auto or off, not yes"):
        CrackPredictor(cfg)


def test_unknown_parts_are_left_alone(tiny_stock_config) -> None:
    cfg = tiny_stock_config()
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIPool"
    model = build_model(cfg)
    assert not can_accelerate(model)
    with pytest.raises(CrackError, match="FAST off"):
        accelerate(model, cfg)


def test_precision() -> None:
    assert choose_precision("fp32") == "fp32"
    assert choose_precision("auto") in ("fp32", "bf16")
    with pytest.raises(CrackError, match="fp32, bf16 or auto, not int8"):
        choose_precision("int8")


def test_threads_are_as_before(tiny_crack_config) -> None:
    cfg = tiny_crack_config()
    cfg.INPUT.MIN_SIZE_TEST = 0
    before = torch.get_num_threads()
    CrackPredictor(cfg)(cv2.resize(draw_photo(0).image, (96, 96)))
    assert torch.get_num_threads() == before


@pytest.fixture
def detector(tiny_crack_config) -> FastDetector:
    """A fast detector of an untrained model that finds something."""
    cfg = tiny_crack_config()
    cfg.CRACK.INFERENCE.PRECISION = "fp32"
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.05
    cfg.MODEL.CRACK_MAP.LINK_THRESHOLD = 0.046
    plain = DefaultDetector(cfg)
    _settle(plain.predictor.model)
    return FastDetector(plain, cfg)


def test_pictures_begun_ahead_of_their_call_give_the_same(detector: FastDetector) -> None:
    pictures = [draw_photo(i, height=96 + 32 * (i % 2)).image for i in range(4)]
    expected = [detector(picture) for picture in pictures]
    begun: list[np.ndarray] = []
    begin = detector._input
    detector._input = lambda picture: begun.append(picture) or begin(picture)  # type: ignore
    # The third call is told of a picture that never comes.
    told = iter([pictures[1], pictures[2], pictures[0], None])
    detector.upcoming = lambda: next(told)
    for number, picture in enumerate(pictures):
        found = detector(picture)
        assert found.regions == expected[number].regions
        assert np.array_equal(found.crack_map, expected[number].crack_map)
    order = [next(i for i, x in enumerate(pictures) if x is picture) for picture in begun]
    assert order == [0, 1, 2, 0, 3]


def test_an_upcoming_picture_that_cannot_be_begun_spoils_its_own_call_only(
    detector: FastDetector,
) -> None:
    picture = draw_photo(0).image
    expected = detector(picture)
    bad = np.zeros((0, 5, 3), np.uint8)
    detector.upcoming = lambda: bad
    found = detector(picture)
    assert np.array_equal(found.crack_map, expected.crack_map)
    detector.upcoming = lambda: None
    with pytest.raises(Exception, match=r"."):
        detector(bad)
    assert np.array_equal(detector(picture).crack_map, expected.crack_map)
