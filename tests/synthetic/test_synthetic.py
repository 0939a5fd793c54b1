"""Drawn photos: reproducible, exact, of every kind that the demo and the tests rely on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crack_data.convert.cleaning import clean_mask
from crack_data.convert.mask_files import read_mask
from crack_data.convert.options import PRESETS
from crack_data.convert.pairing import find_pairs
from crack_data.errors import CrackError
from crack_data.synthetic import draw_photo, write_photos
from crack_data.synthetic.cracks import Crack, draw_cracks
from crack_data.synthetic.mask_noise import noisy_mask
from crack_data.synthetic.photo import SyntheticPhoto
from crack_data.synthetic.texture import value_noise


@pytest.fixture(scope="module")
def photos() -> list[SyntheticPhoto]:
    return [draw_photo(index, height=160, width=240) for index in range(40)]


def test_a_photo_depends_on_its_number_and_seed_only(photos: list[SyntheticPhoto]) -> None:
    again = draw_photo(7, height=160, width=240)
    np.testing.assert_array_equal(again.image, photos[7].image)
    np.testing.assert_array_equal(again.mask, photos[7].mask)
    assert (draw_photo(7, seed=1, height=160, width=240).image != photos[7].image).any()


def test_shapes_and_values(photos: list[SyntheticPhoto]) -> None:
    for photo in photos:
        assert photo.image.shape == (160, 240, 3)
        assert photo.image.dtype == photo.mask.dtype == np.uint8
        assert photo.mask.shape == (160, 240)
        assert set(np.unique(photo.mask)) <= {0, 255}
        assert photo.image.std() > 3


def test_most_photos_are_cracked_and_some_are_not(photos: list[SyntheticPhoto]) -> None:
    cracked = sum(bool(photo.mask.any()) for photo in photos)
    assert 28 <= cracked < 40


def test_cracks_are_darker_than_the_ground_beside_them(photos: list[SyntheticPhoto]) -> None:
    darker = []
    for photo in photos:
        if not photo.mask.any():
            continue
        beside = (cv2.dilate(photo.mask, np.ones((13, 13))) > 0) & (photo.mask == 0)
        grey = cv2.cvtColor(photo.image, cv2.COLOR_BGR2GRAY)
        darker.append(float(grey[photo.mask > 0].mean()) < float(grey[beside].mean()))
    assert np.mean(darker) > 0.95


def test_widths_range_from_one_pixel_to_twelve(photos: list[SyntheticPhoto]) -> None:
    widest = [
        2 * float(cv2.distanceTransform(photo.mask, cv2.DIST_L2, 5).max())
        for photo in photos
        if photo.mask.any()
    ]
    assert min(widest) <= 4
    assert 8 <= max(widest) <= 24  # two cracks may run into one another


def test_a_crack_too_thin_for_a_pixel_stays_in_one_piece() -> None:
    points = np.stack([np.linspace(-5, 70, 40), np.linspace(3.3, 29.6, 40)], axis=1)
    layer = draw_cracks([Crack(points, np.full(40, 0.4), np.full(40, 0.5))], (32, 64))
    count, _ = cv2.connectedComponents(layer.mask)
    assert count == 2
    assert 0 < layer.darkness.max() <= 0.51


@pytest.mark.parametrize("width", [2, 5, 9])
def test_a_straight_crack_has_the_width_it_was_given(width: int) -> None:
    points = np.stack([np.arange(-5.0, 70), np.full(75, 15.5 if width % 2 == 0 else 16)], axis=1)
    layer = draw_cracks([Crack(points, np.full(75, width), np.ones(75))], (32, 64))
    assert (layer.mask > 0).sum(axis=0).tolist() == pytest.approx([width] * 64, abs=1)


def test_no_crack_draws_nothing() -> None:
    layer = draw_cracks([], (8, 9))
    assert layer.mask.shape == (8, 9)
    assert not layer.mask.any()
    assert not layer.darkness.any()


@pytest.mark.parametrize("cell", [3.0, 40.0, (2.0, 60.0)])
@pytest.mark.parametrize("shape", [(33, 47), (160, 64)])
def test_noise_is_standardised(cell: float | tuple[float, float], shape: tuple[int, int]) -> None:
    noise = value_noise(np.random.default_rng(0), shape, cell, octaves=2)
    assert noise.shape == shape
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 0.1
    assert 0.7 < float(noise.std()) < 1.1


def test_noisy_masks_need_cleaning_and_survive_it(photos: list[SyntheticPhoto]) -> None:
    exact = max((photo.mask for photo in photos), key=np.count_nonzero)
    noisy = noisy_mask(exact, np.random.default_rng(0))
    assert len(np.unique(noisy)) > 10
    cleaned = clean_mask(noisy, PRESETS["thin"]) > 0
    near = cv2.dilate(exact, np.ones((5, 5))) > 0
    assert (cleaned & near).sum() >= 0.97 * cleaned.sum()
    assert (cleaned & (exact > 0)).sum() >= 0.95 * (exact > 0).sum()


def test_files_pair_up_and_masks_are_exact(tmp_path: Path) -> None:
    write_photos(tmp_path, 3, seed=5, height=64, width=96)
    pairing = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert len(pairing.pairs) == 3
    for index, pair in enumerate(pairing.pairs):
        expected = draw_photo(index, 5, 64, 96)
        np.testing.assert_array_equal(read_mask(pair.mask), expected.mask)
        image = cv2.imread(str(pair.photo))
        assert image is not None
        assert np.abs(image.astype(int) - expected.image).mean() < 6  # JPEG


def test_noise_leaves_the_photos_as_they_are(tmp_path: Path) -> None:
    for name, noise in (("exact", False), ("noisy", True)):
        write_photos(tmp_path / name, 2, height=64, width=96, noise=noise)
    for name in ("drawn_00000.jpg", "drawn_00001.jpg"):
        exact, noisy = (tmp_path / kind / "images" / name for kind in ("exact", "noisy"))
        assert exact.read_bytes() == noisy.read_bytes()
    masks = [(tmp_path / kind / "masks" / "drawn_00000.png") for kind in ("exact", "noisy")]
    assert masks[0].read_bytes() != masks[1].read_bytes()


@pytest.mark.parametrize("size", [(31, 480), (320, 0)])
def test_tiny_photos_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CrackError, match="32 px or more"):
        draw_photo(0, height=size[0], width=size[1])


@pytest.mark.parametrize("size", [(32, 32), (400, 40), (40, 400)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    for index in range(15):
        assert draw_photo(index, height=size[0], width=size[1]).mask.shape == size
