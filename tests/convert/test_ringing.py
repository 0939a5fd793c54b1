"""The halo of double compression goes; cracks, thin ones too, stay."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crack_data.convert.cleaning import remove_ringing


def _crack(width: int) -> np.ndarray:
    mask = np.zeros((160, 160), np.uint8)
    points = np.array([[5, 20], [60, 70], [90, 75], [150, 140]])
    cv2.polylines(mask, [points], False, 1, width)
    return mask


def _halo(mask: np.ndarray) -> np.ndarray:
    """A checkered halo in the 8x8 blocks that a crack crosses."""
    blocks = cv2.resize(mask, (20, 20), interpolation=cv2.INTER_AREA)
    touched = cv2.resize((blocks > 0).astype(np.uint8), (160, 160), interpolation=cv2.INTER_NEAREST)
    touched |= cv2.resize(
        cv2.dilate(mask, np.ones((5, 5), np.uint8))[3::8, 3::8], (160, 160), interpolation=0
    )
    checkers = (np.indices(mask.shape).sum(axis=0) % 2).astype(np.uint8)
    return mask | (touched & checkers)


def test_a_halo_goes_and_the_crack_stays() -> None:
    crack = _crack(9)
    noisy = _halo(crack)
    assert noisy.sum() > 1.15 * crack.sum()
    cleaned = remove_ringing(noisy)
    overlap = (cleaned & crack).sum()
    assert overlap / (cleaned | crack).sum() > 0.9
    assert overlap > 0.97 * crack.sum()


@pytest.mark.parametrize("width", [1, 2, 3, 9])
def test_a_clean_mask_is_untouched(width: int) -> None:
    crack = _crack(width)
    assert np.array_equal(remove_ringing(crack), crack)


@pytest.mark.parametrize("slope", [(160, 80), (160, 160), (70, 160)])
def test_thin_lines_beside_dots_are_untouched(slope: tuple[int, int]) -> None:
    """Of a line 1 px wide that is not level each pixel is a speck, 4-connected."""
    mask = np.zeros((160, 160), np.uint8)
    for start in range(0, 140, 30):
        cv2.line(mask, (start, 4), (start + slope[0], 4 + slope[1]), 1, 1)
        for way in (0.2, 0.4, 0.6):
            dot = int(start + way * slope[0]), int(4 + way * slope[1])
            cv2.circle(mask, dot, 2, 1, -1)
    assert np.array_equal(remove_ringing(mask), mask)
    corners = np.eye(40, dtype=np.uint8)
    assert np.array_equal(remove_ringing(corners), corners)


def test_an_empty_and_a_full_mask_are_untouched() -> None:
    for mask in (np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)):
        assert np.array_equal(remove_ringing(mask), mask)


def test_turning_the_mask_turns_the_result() -> None:
    noisy = _halo(_crack(9))
    for turned in (np.flipud, np.fliplr, np.rot90):
        ours = remove_ringing(np.ascontiguousarray(turned(noisy)))
        assert np.array_equal(ours, turned(remove_ringing(noisy)))


@pytest.mark.shared
def test_on_real_masks(shared: Path) -> None:
    def read(path: Path) -> np.ndarray:
        return (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)

    ringing = sorted((shared / "data/crackseg448/masks").glob("Rissbilder*"))[:40]
    masks = [mask for mask in map(read, ringing) if mask.any()]
    kept = [remove_ringing(mask).sum() / mask.sum() for mask in masks]
    assert max(kept) < 0.9  # all have a halo, of a third of their pixels
    assert min(kept) > 0.3
    for path in sorted((shared / "data/deepcrack_train/masks").iterdir())[:40]:
        assert np.array_equal(remove_ringing(read(path)), read(path))
