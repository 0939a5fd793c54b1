"""Masks that do not belong to their photo as they stand are told from those that do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from crack_data.convert.cleaning import clean_mask
from crack_data.convert.mask_files import read_mask
from crack_data.convert.options import PRESETS
from crack_data.convert.pairing import find_pairs
from crack_data.convert.photo_probe import SCALE, probe_photo
from crack_data.convert.suspicion import suspicions

# Looked at by eye: the only masks of this set that stand upside down.
UPSIDE_DOWN = {
    "20160222_115519",
    "20160222_164825",
    "20160303_092627",
    "20160307_163613",
    "20160324_170323",
    "20160330_170922",
}


def _photo_and_mask() -> tuple[np.ndarray, np.ndarray]:
    """A grainy photo, 200x300, with a dark crooked crack, and its mask."""
    mask = np.zeros((200, 300), np.uint8)
    points = np.array([[0, 40], [90, 70], [160, 30], [299, 120]])
    cv2.polylines(mask, [points], False, 1, 3)
    grey = np.random.default_rng(0).normal(150, 12, mask.shape) - 60.0 * mask
    return np.clip(grey, 0, 255).astype(np.uint8), mask


def _flags(grey: np.ndarray, mask: np.ndarray, stem: str = "a") -> dict[str, float]:
    small = np.asarray(Image.fromarray(grey).reduce(SCALE))
    return suspicions(stem, small, np.ascontiguousarray(mask))


def test_a_mask_that_fits_has_no_flag() -> None:
    assert _flags(*_photo_and_mask()) == {}


def test_a_turned_and_a_mirrored_mask_are_flagged() -> None:
    grey, mask = _photo_and_mask()
    assert list(_flags(grey, mask[::-1, ::-1])) == ["upside_down"]
    assert list(_flags(grey, mask[:, ::-1])) == ["mirrored"]
    assert list(_flags(grey, mask[::-1])) == ["mirrored"]


def test_coverage() -> None:
    grey, mask = _photo_and_mask()
    mask[60:150] = 1
    assert _flags(grey, mask) == {"coverage": pytest.approx(100 * mask.mean())}
    mask[60:100] = 0
    assert "coverage" not in _flags(grey, mask)


@pytest.mark.parametrize(
    ("stem", "flagged"),
    [
        ("CRACK500_1", True),
        ("Rissbild_3", True),
        ("photo_7", False),
        ("noncrack_wall", False),
        ("no_crack_2", False),
        ("Uncracked-5", False),
        ("crack-free_1", False),
    ],
)
def test_an_empty_mask_is_suspicious_when_the_name_says_crack(stem: str, flagged: bool) -> None:
    grey, mask = _photo_and_mask()
    assert _flags(grey, np.zeros_like(mask), stem) == ({"empty": 1.0} if flagged else {})


@pytest.mark.parametrize("corner", [(0, 0), (1, 2), (7, 5)])
def test_a_box_of_the_mask_tells_as_much_as_the_whole(corner: tuple[int, int]) -> None:
    grey, mask = _photo_and_mask()
    turned = np.zeros_like(mask)
    turned[20:160, 10:200] = mask[::-1, ::-1][20:160, 10:200]
    x, y = corner
    small = np.asarray(Image.fromarray(grey).reduce(SCALE))
    box = turned[y:161, x:203]
    assert suspicions("a", small, box, x, y, turned.size) == _flags(grey, turned) != {}


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 1), (3, 3)])
def test_tiny_photos_are_no_trouble(size: tuple[int, int]) -> None:
    small = Image.fromarray(np.full(size, 9, np.uint8)).reduce(SCALE)
    flags = suspicions("a", np.asarray(small), np.ones(size, np.uint8))
    assert flags == {"coverage": 100.0}


@pytest.mark.shared
def test_the_upside_down_masks_of_a_real_set(shared: Path) -> None:
    folder = shared / "data/crack500_train"
    flagged = set()
    for pair in find_pairs(folder / "images", folder / "masks").pairs:
        mask = clean_mask(read_mask(pair.mask), PRESETS["thin"])
        if {"upside_down", "mirrored"} & set(
            suspicions(pair.stem, probe_photo(pair.photo)[2], mask)
        ):
            flagged.add(pair.stem)
    assert flagged == UPSIDE_DOWN
