"""Masks that do not belong to their photo as they stand, and photos that look the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image

from crack_data.convert.checks import (
    MAX_DISTANCE,
    check_pair,
    flag_duplicate_masks,
    mean_width,
    near_duplicates,
    perceptual_hash,
    turning_gains,
)
from crack_data.convert.cleaning import PRESETS, find_cracks
from crack_data.convert.mask_files import read_mask
from crack_data.convert.pairing import PairRecord, pair_files, stem_of
from crack_data.photos import PROBE_SCALE, probe_photo

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
    small = np.asarray(Image.fromarray(grey).reduce(PROBE_SCALE))
    return check_pair(stem, small, np.ascontiguousarray(mask))


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


def test_a_photo_that_is_flat_but_for_a_corner_has_no_deviation_below_zero() -> None:
    photo = np.full((80, 120), 255, np.uint8)
    photo[:20, :30], photo[40:42] = 0, 217
    mask = np.zeros_like(photo)
    mask[40] = 1
    gains = turning_gains(photo, mask)
    assert all(np.isfinite(gain) for gain in gains.values())


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 1), (3, 3)])
def test_tiny_photos_are_no_trouble(size: tuple[int, int]) -> None:
    small = Image.fromarray(np.full(size, 9, np.uint8)).reduce(PROBE_SCALE)
    flags = check_pair("a", np.asarray(small), np.ones(size, np.uint8))
    assert flags == {"coverage": 100.0}


@pytest.mark.shared
def test_the_upside_down_masks_of_a_real_set(shared: Path) -> None:
    folder = shared / "data/crack500_train"
    flagged = set()
    pairs = pair_files(folder / "images", folder / "masks").records
    for pair in pairs[::12] + [each for each in pairs if stem_of(each.photo) in UPSIDE_DOWN]:
        mask = (find_cracks(read_mask(pair.masks[0]).values, PRESETS["thin"]) > 0).view(np.uint8)
        if {"upside_down", "mirrored"} & set(
            check_pair(stem_of(pair.photo), probe_photo(pair.photo)[2], mask)
        ):
            flagged.add(stem_of(pair.photo))
    assert flagged == UPSIDE_DOWN


def _noise(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12), np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


def _hashed(names: Sequence[str], splits: list[str], hashes: list[int]) -> list[PairRecord]:
    rows = zip(names, splits, hashes, strict=True)
    return [PairRecord(name, name, split=split, photo_hash=x) for name, split, x in rows]


def test_a_saved_again_and_resized_photo_is_a_near_duplicate() -> None:
    photo = _noise(0)
    saved = cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0)
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    hashes = [perceptual_hash(p) for p in (photo, saved, small, _noise(1))]
    found = list(near_duplicates(_hashed("abcd", ["train", "val", "train", "val"], hashes)))
    pairs = {(pair.one.photo, pair.other.photo) for pair in found}
    assert ("a", "b") in pairs
    assert pairs <= {("a", "b"), ("b", "c")}
    assert all(pair.one.split != pair.other.split for pair in found)


def test_the_hash_is_the_librarys() -> None:
    photo = cv2.resize(_noise(2), (64, 64))
    theirs = imagehash.phash(Image.fromarray(photo))
    assert perceptual_hash(photo) == int(str(theirs), 16)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_as_comparing_all_with_all(seed: int) -> None:
    chance = random.Random(seed)
    hashes: list[int] = []
    for _ in range(60):
        value = chance.getrandbits(64)
        hashes.append(value)
        for bit in chance.sample(range(64), chance.randint(1, 7)):
            value ^= 1 << bit
        hashes.append(value)
    splits = [chance.choice(["train", "val"]) for _ in hashes]
    names = [f"{index:03d}" for index in range(len(hashes))]
    expected = {
        (names[i], names[j])
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if splits[i] != splits[j] and (hashes[i] ^ hashes[j]).bit_count() <= MAX_DISTANCE
    }
    assert expected
    found = list(near_duplicates(_hashed(names, splits, hashes)))
    assert {(pair.one.photo, pair.other.photo) for pair in found} == expected


def test_thousands_of_the_same_photo_are_named_once() -> None:
    count = 20000
    splits = ["train", "val"] * (count // 2)
    found = list(near_duplicates(_hashed([str(i) for i in range(count)], splits, [7] * count)))
    assert [(pair.one.photo, pair.other.photo, pair.distance) for pair in found] == [("0", "1", 0)]


def test_a_mask_that_several_photos_share_is_flagged() -> None:
    masks = [["a"], [], ["b"], ["a"], []]
    records = [PairRecord("", "", annotations=mask, instances=len(mask)) for mask in masks]
    flag_duplicate_masks(records)
    assert [record.flags for record in records] == [
        {"duplicate_mask": 2.0},
        {},
        {},
        {"duplicate_mask": 2.0},
        {},
    ]


@pytest.mark.parametrize("width", [2, 4, 9])
def test_mean_width_over_directions(width: int) -> None:
    # Bands of every direction; single ones are off by the direction, their mean is not.
    found = []
    for degrees in range(0, 180, 5):
        y, x = np.mgrid[-80:80, -80:80]
        angle = np.deg2rad(degrees)
        distance = np.abs(x * np.sin(angle) + y * np.cos(angle) + 0.3)
        found.append(mean_width((distance <= width / 2).astype(np.uint8)))
    assert np.mean(found) == pytest.approx(width, rel=0.08)
