"""Look-alikes across splits are found, and only those."""

from __future__ import annotations

import itertools
import random

import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image

from crack_data.convert.duplicates import (
    MAX_DISTANCE,
    mask_digest,
    near_duplicates,
    perceptual_hash,
)


def _photo(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12), np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


def test_a_saved_again_and_resized_photo_is_a_near_duplicate() -> None:
    photo = _photo(0)
    saved = cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0)
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    hashes = [perceptual_hash(p) for p in (photo, saved, small, _photo(1))]
    found = near_duplicates(["a", "b", "c", "d"], ["train", "val", "train", "val"], hashes)
    pairs = {(pair.photo, pair.other) for pair in found}
    assert ("a", "b") in pairs
    assert pairs <= {("a", "b"), ("b", "c")}
    assert all(pair.split != pair.other_split for pair in found)


def test_the_hash_is_the_librarys() -> None:
    photo = cv2.resize(_photo(2), (64, 64))
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
    found = near_duplicates(names, splits, hashes)
    assert {(pair.photo, pair.other) for pair in found} == expected


def test_thousands_of_the_same_photo_are_named_once() -> None:
    count = 20000
    splits = ["train", "val"] * (count // 2)
    found = near_duplicates([str(i) for i in range(count)], splits, [7] * count)
    assert [(pair.photo, pair.other, pair.distance) for pair in found] == [("0", "1", 0)]


def test_digests_of_masks() -> None:
    assert mask_digest([], 6, 4) == b""
    assert mask_digest(["a"], 6, 4) == mask_digest(["a"], 6, 4) != b""
    assert (
        len({mask_digest(*args) for args in ((["a"], 4, 6), (["b"], 6, 4), (["a", "b"], 6, 4))})
        == 3
    )
