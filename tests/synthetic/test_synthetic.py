"""Drawn photos: reproducible, exact, of every kind that the demo and the tests rely on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from crack_data.convert.cleaning import PRESETS, find_cracks
from crack_data.convert.mask_files import read_mask
from crack_data.convert.pairing import pair_files
from crack_data.errors import CrackError
from crack_data.synthetic import SyntheticPhoto, draw_photo, write_photos
from crack_data.synthetic.cracks import Crack, interrupted
from crack_data.synthetic.masonry import Masonry
from crack_data.synthetic.photos import draw_cracks, noisy_mask
from crack_data.synthetic.textures import value_noise


@pytest.fixture(scope="module")
def photos() -> list[SyntheticPhoto]:
    return [draw_photo(index, height=128, width=192) for index in range(25)]


def test_a_photo_depends_on_its_number_and_seed_only(photos: list[SyntheticPhoto]) -> None:
    again = draw_photo(7, height=128, width=192)
    np.testing.assert_array_equal(again.image, photos[7].image)
    np.testing.assert_array_equal(again.mask, photos[7].mask)
    assert (draw_photo(7, seed=1, height=128, width=192).image != photos[7].image).any()


def test_shapes_and_values(photos: list[SyntheticPhoto]) -> None:
    for photo in photos:
        assert photo.image.shape == (128, 192, 3)
        assert photo.image.dtype == photo.mask.dtype == np.uint8
        assert photo.mask.shape == (128, 192)
        assert set(np.unique(photo.mask)) <= {0, 255}
        assert photo.image.std() > 3


def test_most_photos_are_cracked_and_some_are_not(photos: list[SyntheticPhoto]) -> None:
    cracked = sum(bool(photo.mask.any()) for photo in photos)
    assert 15 <= cracked < 25
    assert all(instance.any() for photo in photos for instance in photo.instances)


def test_cracks_are_darker_than_the_ground_beside_them(photos: list[SyntheticPhoto]) -> None:
    darker = []
    for photo in photos:
        if not photo.mask.any():
            continue
        beside = (cv2.dilate(photo.mask, np.ones((13, 13))) > 0) & (photo.mask == 0)
        grey = cv2.cvtColor(photo.image, cv2.COLOR_BGR2GRAY)
        darker.append(float(grey[photo.mask > 0].mean()) < float(grey[beside].mean()))
    assert np.mean(darker) > 0.9


def test_widths_range_from_one_pixel_to_the_widest() -> None:
    widest = []
    for index in range(24):
        mask = draw_photo(index, seed=3, height=256, width=256).mask
        if mask.any():
            widest.append(2 * float(cv2.distanceTransform(mask, cv2.DIST_L2, 5).max()))
    assert min(widest) <= 4
    assert 25 <= max(widest) <= 128  # two cracks may run into one another
    assert 0.1 <= np.mean(np.array(widest) > 15) <= 0.7


def test_a_crack_too_thin_for_a_pixel_stays_in_one_piece() -> None:
    layer = draw_cracks([_line((-5, 3.3), (70, 29.6), 0.4)], (32, 64))
    count, _ = cv2.connectedComponents(layer.masks[0])
    assert count == 2
    assert 0 < layer.darkness.max() <= 0.51


@pytest.mark.parametrize("width", [2, 5, 9])
def test_a_straight_crack_has_the_width_it_was_given(width: int) -> None:
    y = 15.5 if width % 2 == 0 else 16
    layer = draw_cracks([_line((-5, y), (70, y), width)], (32, 64))
    assert (layer.masks[0] > 0).sum(axis=0).tolist() == pytest.approx([width] * 64, abs=1)


def test_an_interrupted_crack_is_one_instance_in_pieces() -> None:
    crack = interrupted(np.random.default_rng(9), _line((-5, 16), (300, 16), 3))  # twice
    (mask,) = draw_cracks([crack], (32, 300)).masks
    count, _ = cv2.connectedComponents(mask)
    assert count == 4
    empty = np.flatnonzero(~mask.any(axis=0))
    runs = np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1)
    assert all(1 <= len(run) <= 31 for run in runs)


def test_crossing_cracks_are_two_instances_that_share_pixels() -> None:
    cracks = [_line((-5, 16), (70, 16), 3), _line((32, -5), (32, 40), 3, number=1)]
    one, other = draw_cracks(cracks, (32, 64)).masks
    assert (one & other).any()
    assert not one[:10].any()
    assert not other[:, :20].any()


def _line(
    start: tuple[float, float], end: tuple[float, float], width: float, number: int = 0
) -> Crack:
    points = np.linspace(start, end, 200)
    half = np.full(200, width / 2)
    return Crack(points, half, half, np.full(200, 0.5), np.ones(200, np.bool_), number)


def test_no_crack_draws_nothing() -> None:
    layer = draw_cracks([], (8, 9))
    assert layer.masks == []
    assert layer.coverage.shape == (8, 9)
    assert not layer.darkness.any()


def test_a_stepped_crack_follows_the_joints() -> None:
    masonry = Masonry(40, 16, 3, 0.5, 0.1, (7, 9))
    path = masonry.stepped_path(np.random.default_rng(0), (200, 300))
    sides = np.diff(path, axis=0)
    turned = np.abs(sides @ np.array([np.cos(0.1), np.sin(0.1)]))
    assert np.allclose(turned[::2], 0, atol=1e-9)  # down a head joint
    assert np.allclose(turned[1::2], 20, atol=1e-9)  # half a brick along a bed joint


@pytest.mark.parametrize("cell", [3.0, 40.0])
@pytest.mark.parametrize("shape", [(33, 47), (160, 64)])
def test_noise_is_standardised(cell: float, shape: tuple[int, int]) -> None:
    noise = value_noise(np.random.default_rng(0), shape, cell, octaves=2)
    assert noise.shape == shape
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 0.1
    assert 0.7 < float(noise.std()) < 1.1


def test_noisy_masks_need_cleaning_and_survive_it(photos: list[SyntheticPhoto]) -> None:
    exact = max((photo.mask for photo in photos), key=np.count_nonzero)
    noisy = noisy_mask(exact, np.random.default_rng(0))
    assert len(np.unique(noisy)) > 10
    cleaned = find_cracks(noisy, PRESETS["thin"]) > 0
    near = cv2.dilate(exact, np.ones((5, 5))) > 0
    assert (cleaned & near).sum() >= 0.97 * cleaned.sum()
    assert (cleaned & (exact > 0)).sum() >= 0.95 * (exact > 0).sum()


def test_files_pair_up_and_masks_are_exact(tmp_path: Path) -> None:
    write_photos(tmp_path, 3, seed=5, height=64, width=96)
    pairing = pair_files(tmp_path / "images", tmp_path / "masks")
    assert len(pairing.records) == 3
    for index, pair in enumerate(pairing.records):
        expected = draw_photo(index, 5, 64, 96)
        np.testing.assert_array_equal(read_mask(pair.masks[0]).values, expected.mask)
        image = cv2.imread(str(pair.photo))
        assert image is not None
        assert np.abs(image.astype(int) - expected.image).mean() < 6  # JPEG


def test_instances_are_written_as_coco(tmp_path: Path) -> None:
    write_photos(tmp_path, 6, seed=2, height=96, width=128, instances=True)
    coco = COCO(str(tmp_path / "instances.json"))
    for index in range(6):
        expected = draw_photo(index, 2, 96, 128).instances
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[index + 1]))
        assert len(annotations) == len(expected)
        for annotation, mask in zip(annotations, expected, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation), mask // 255)
            assert annotation["area"] == np.count_nonzero(mask)
            assert tuple(annotation["bbox"]) == cv2.boundingRect(mask)


def test_annotations_of_an_earlier_series_go(tmp_path: Path) -> None:
    write_photos(tmp_path, 1, seed=2, height=32, width=32, instances=True)
    with pytest.raises(CrackError):
        write_photos(tmp_path, 1, seed=3, height=31, width=32)
    assert (tmp_path / "instances.json").exists()  # nothing was replaced
    write_photos(tmp_path, 1, seed=3, height=32, width=32)
    assert not (tmp_path / "instances.json").exists()


def test_what_is_of_another_kind_or_series_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text('{"mine": 1}')
    with pytest.raises(CrackError, match=r"instances\.json is not of drawn photos"):
        write_photos(tmp_path, 1, height=32, width=32)
    assert (tmp_path / "instances.json").read_text() == '{"mine": 1}'
    (tmp_path / "instances.json").unlink()
    write_photos(tmp_path, 3, height=32, width=32)
    with pytest.raises(CrackError, match="holds a longer series"):
        write_photos(tmp_path, 2, height=32, width=32)


def test_noise_leaves_the_photos_as_they_are(tmp_path: Path) -> None:
    for name, noise in (("exact", False), ("noisy", True)):
        write_photos(tmp_path / name, 2, height=64, width=96, noise=noise)
    for name in ("drawn_00000.jpg", "drawn_00001.jpg"):
        exact, noisy = (tmp_path / kind / "images" / name for kind in ("exact", "noisy"))
        assert exact.read_bytes() == noisy.read_bytes()
    masks = [(tmp_path / kind / "masks" / "drawn_00000.png") for kind in ("exact", "noisy")]
    assert masks[0].read_bytes() != masks[1].read_bytes()


@pytest.mark.parametrize("size", [(31, 480), (320, 0), (32, 8193)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CrackError, match="32 to 8192 px"):
        draw_photo(0, height=size[0], width=size[1])


@pytest.mark.parametrize("size", [(32, 32), (400, 40), (40, 400)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    for index in range(8):
        assert draw_photo(index, height=size[0], width=size[1]).mask.shape == size


def test_a_low_and_wide_photo_can_be_drawn() -> None:
    for index in range(30):
        assert draw_photo(index, seed=11, height=32, width=900).mask.shape == (32, 900)


def test_a_json_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("[]")
    with pytest.raises(CrackError, match="is not of drawn photos; move it"):
        write_photos(tmp_path, 1, instances=True)
