"""Crops: photo and mask move together, thin cracks survive, light changes as far as it may."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode

from crack_data.training import augmentation
from crack_data.training.augmentation import MEAN_BGR, CropPlan, crop_mask, crop_photo

PLAN = CropPlan(scale=1.0, degrees=0.0, flip=False, centre=(49.5, 49.5), size=100, reflect=False)


def _plan(**changes: object) -> CropPlan:
    return dataclasses.replace(PLAN, **changes)


def _square_photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_turns_and_flip_are_numpys(turns: int, flip: bool) -> None:
    photo = _square_photo()
    expected = np.rot90(photo, turns)
    expected = expected[:, ::-1] if flip else expected
    turned = crop_photo(photo, _plan(degrees=90.0 * turns, flip=flip))
    assert np.abs(turned.astype(int) - expected).max() <= (turns > 0)


@pytest.mark.parametrize("scale", [0.4, 0.7, 0.95, 1.3, 2.5])
@pytest.mark.parametrize("degrees", [0.0, 15.0, -40.0])
@pytest.mark.parametrize("flip", [False, True])
def test_photo_and_mask_move_together(scale: float, degrees: float, flip: bool) -> None:
    """A white disc on black is its own mask: both crops must show it at the same place."""
    mask = np.zeros((120, 160), np.uint8)
    cv2.circle(mask, (90, 50), 20, 1, -1)
    photo = cv2.merge([mask * 255] * 3)
    plan = _plan(scale=scale, degrees=degrees, flip=flip, centre=(80.0, 60.0), size=128)
    mirrored = dataclasses.replace(plan, reflect=True)
    assert np.array_equal(crop_photo(photo, mirrored)[:, :, 0], crop_mask(mask, mirrored))
    covered = crop_mask(mask, plan)
    # The disc's centre lies where the plan's matrix says.
    expected = plan.matrix() @ np.array([90, 50, 1])
    rows, columns = np.nonzero(covered > 127)
    if scale <= 1.3:  # the whole disc is in the crop
        assert np.allclose([columns.mean(), rows.mean()], expected, atol=0.3)
        assert len(rows) == pytest.approx(np.pi * (20.5 * scale) ** 2, rel=0.06)


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0, 1.4])
@pytest.mark.parametrize("row", [50, 51])
def test_a_line_of_one_pixel_survives(scale: float, row: int) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[row, 10:90] = 1
    covered = crop_mask(mask, _plan(scale=scale, degrees=3.0))
    inside = covered[:, 35:65].max(axis=0)
    assert (inside >= 255 * 0.2).all()  # what links the pieces of an instance


def test_outside_the_photo_is_its_mirror_image_or_the_mean() -> None:
    photo = _square_photo()
    away = _plan(centre=(-0.5, 49.5))
    assert np.array_equal(np.unique(crop_photo(photo, away)[:, :49]), np.unique(MEAN_BGR))
    mirrored = crop_photo(photo, dataclasses.replace(away, reflect=True))
    assert np.array_equal(mirrored[:, 1:50][:, ::-1], photo[:, 1:50])


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(3).integers(90, 160, (64, 80, 3), dtype=np.uint8)


DEGRADATIONS = ("SHADOW_PROB", "BLUR_PROB", "NOISE_PROB", "JPEG_PROB")


@pytest.mark.parametrize("chosen", [*DEGRADATIONS, None])
def test_each_degradation_has_its_probability_and_keeps_the_form(
    make_config: Callable[..., CfgNode], photo: np.ndarray, chosen: str | None
) -> None:
    keys = make_config().CRACK.AUG
    keys.merge_from_list([x for name in DEGRADATIONS for x in (name, float(name == chosen))])
    changed, again = (augmentation.degrade(photo, np.random.default_rng(0), keys) for _ in "12")
    assert (changed.shape, changed.dtype) == (photo.shape, np.uint8)
    assert np.array_equal(changed, photo) == (chosen is None)
    assert np.array_equal(changed, again)


def test_a_shadow_only_darkens_and_leaves_a_lit_side(photo: np.ndarray) -> None:
    for seed in range(20):
        shaded = augmentation.cast_shadow(photo, np.random.default_rng(seed))
        assert (shaded <= photo).all()
        ratio = shaded.mean(axis=2) / photo.mean(axis=2)
        assert 0.38 < ratio.min() < 0.82
        assert ratio.max() > 0.95


def test_no_light_change_where_the_keys_are_zero(
    make_config: Callable[..., CfgNode], photo: np.ndarray
) -> None:
    keys = [f"CRACK.AUG.{name}" for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")]
    cfg = make_config(*(x for key in keys for x in (key, 0.0)))
    changed = augmentation.change_light(photo, np.random.default_rng(0), cfg.CRACK.AUG)
    assert np.abs(changed.astype(int) - photo).max() <= 1
