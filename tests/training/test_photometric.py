"""Changes of light and quality: they change the photo, and only as much as they may."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from detectron2.config import CfgNode

from crack_data.training import photometric


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(3).integers(90, 160, (64, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "step",
    [photometric.cast_shadow, photometric.blur, photometric.add_noise, photometric.compress],
)
def test_each_step_changes_the_photo_and_keeps_its_form(step: Callable, photo: np.ndarray) -> None:
    changed = step(photo, np.random.default_rng(0))
    assert (changed.shape, changed.dtype) == (photo.shape, np.uint8)
    assert not np.array_equal(changed, photo)
    assert np.array_equal(changed, step(photo, np.random.default_rng(0)))


def test_a_shadow_only_darkens_and_leaves_a_lit_side(photo: np.ndarray) -> None:
    for seed in range(20):
        shaded = photometric.cast_shadow(photo, np.random.default_rng(seed))
        assert (shaded <= photo).all()
        ratio = shaded.mean(axis=2) / photo.mean(axis=2)
        assert 0.38 < ratio.min() < 0.82
        assert ratio.max() > 0.95


def test_no_light_change_where_the_keys_are_zero(
    make_config: Callable[..., CfgNode], photo: np.ndarray
) -> None:
    keys = [f"CRACK.AUG.{name}" for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")]
    cfg = make_config(*(x for key in keys for x in (key, 0.0)))
    changed = photometric.change_light(photo, np.random.default_rng(0), cfg.CRACK.AUG)
    assert np.abs(changed.astype(int) - photo).max() <= 1


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_probabilities(
    make_config: Callable[..., CfgNode], photo: np.ndarray, probability: float
) -> None:
    names = ("SHADOW_PROB", "BLUR_PROB", "NOISE_PROB", "JPEG_PROB")
    cfg = make_config(*(x for name in names for x in (f"CRACK.AUG.{name}", probability)))
    changed = photometric.degrade(photo, np.random.default_rng(0), cfg.CRACK.AUG)
    assert np.array_equal(changed, photo) == (probability == 0.0)
