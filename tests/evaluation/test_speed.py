"""Real masks: 300 photos have to be evaluated in under ten seconds of one core."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from crack_data.evaluation import count_photo, summarize


def prediction_for(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crack map that is a little off and a little noisy: uint8, shape (H, W)."""
    moved = np.roll(truth, tuple(rng.integers(-2, 3, 2)), axis=(0, 1))
    blurred = cv2.GaussianBlur(moved * np.float32(230), (0, 0), 1.5)
    return np.clip(blurred + rng.integers(0, 25, truth.shape), 0, 255).astype(np.uint8)


@pytest.mark.shared
def test_300_photos_in_ten_seconds(shared: Path) -> None:
    rng = np.random.default_rng(0)
    paths = sorted((shared / "data" / "deepcrack_train" / "masks").iterdir())[:300]
    truths = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127 for path in paths]
    maps = [prediction_for(truth, rng) for truth in truths]
    assert len(maps) == 300
    start = time.process_time()
    counts = [
        count_photo(truth, crack_map > 127, crack_map)
        for truth, crack_map in zip(truths, maps, strict=True)
    ]
    metrics = summarize(counts)
    assert time.process_time() - start < 10
    assert 0.5 < metrics["f1"] < metrics["f1_2px"] < 1
