"""The shipped model on real photos: compiled it finds the same cracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crack_data.config import load_predict_config, shipped
from crack_data.inference.prediction import CrackInstance, CrackPrediction
from crack_data.inference.predictor import CrackPredictor
from crack_data.photos import read_photo

SETS = ("deepcrack_train", "crackseg448", "cfd_train", "crack500_train")
PHOTOS_OF_EACH = 25


def _photos(shared: Path) -> list[Path]:
    chosen = []
    for name in SETS:
        paths = sorted((shared / "data" / name / "images").iterdir())
        chosen += paths[:: len(paths) // PHOTOS_OF_EACH][:PHOTOS_OF_EACH]
    return chosen


def _whole(instance: CrackInstance, prediction: CrackPrediction) -> np.ndarray:
    x0, y0, x1, y1 = instance.box
    mask = np.zeros(prediction.probability.shape, dtype=bool)
    mask[y0:y1, x0:x1] = instance.mask
    return mask


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def _is_found(instance: CrackInstance, expected: CrackPrediction, found: CrackPrediction) -> bool:
    mask = _whole(instance, expected)
    return any(
        abs(x.score - instance.score) <= 0.02 and _iou(mask, _whole(x, found)) >= 0.95
        for x in found.instances
    )


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not shipped("checkpoints/crack_mobilenet.pth").exists(), reason="no weights")
@pytest.mark.parametrize(
    ("precision", "most_lost", "agreement"),
    [("fp32", 0.0, 0.9995), ("auto", 0.15, 0.99)],  # in bf16 the edges of masks move
)
def test_same_cracks_on_real_photos(
    precision: str, most_lost: float, agreement: float, shared: Path
) -> None:
    cfg = load_predict_config()
    cfg.CRACK.INFERENCE.PRECISION = precision
    compiled = CrackPredictor(cfg)
    cfg.CRACK.INFERENCE.FAST = "off"
    plain = CrackPredictor(cfg)
    lost, sure = [], 0
    both = hit = 0
    for path in _photos(shared):
        image = read_photo(str(path))
        expected, found = plain(image), compiled(image)
        for instance in expected.instances:
            if instance.score > 0.5:
                sure += 1
                if not _is_found(instance, expected, found):
                    lost.append((path.name, round(instance.score, 3), instance.box))
        hit += 2 * np.count_nonzero(expected.mask & found.mask)
        both += np.count_nonzero(expected.mask) + np.count_nonzero(found.mask)
    print(f"{sure} instances, {len(lost)} lost: {lost}; agreement of pixels {hit / both:.5f}")
    assert sure > 100
    assert len(lost) <= most_lost * sure
    assert hit / both > agreement
