from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crack_data.evaluation.contact_sheet import (
    FALSE,
    HIT,
    MISSED,
    NEAR_FALSE,
    NEAR_MISSED,
    Strip,
    error_map,
    write_contact_sheet,
)


def strip(height: int = 30, width: int = 40, title: str = "Straße 7.jpg") -> Strip:
    photo = np.full((height, width, 3), 150, np.uint8)
    truth = np.zeros((height, width), dtype=bool)
    mask = truth.copy()
    truth[height // 3, :30] = True
    mask[height // 3, 5:20] = True
    return Strip(photo, truth, mask, title)


def test_colours_of_the_error_map() -> None:
    photo = np.full((12, 20, 3), 90, np.uint8)
    truth = np.zeros((12, 20), dtype=bool)
    mask = truth.copy()
    truth[5, :10] = True
    mask[5, 4:12] = True
    mask[10, 15] = True
    errors = error_map(photo, truth, mask)
    assert tuple(errors[5, 6]) == HIT
    assert tuple(errors[5, 0]) == MISSED
    assert tuple(errors[5, 2]) == NEAR_MISSED
    assert tuple(errors[5, 11]) == NEAR_FALSE
    assert tuple(errors[10, 15]) == FALSE
    assert tuple(errors[0, 0]) == (30, 30, 30)


@pytest.mark.parametrize("photos", [1, 2, 5])
def test_sheet_holds_every_photo(tmp_path: Path, photos: int) -> None:
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, [strip() for _ in range(photos)], columns=2, width=40)
    sheet = cv2.imread(str(path))
    rows = -(-photos // 2)
    assert sheet.shape == (20 + rows * (20 + 30 + 4), 2 * (4 * 44 - 4) + 16, 3)
    # Each strip shows its truth, its prediction and the green pixels they share.
    greens = (sheet == HIT[::-1]).all(axis=2)[20:].sum()
    assert greens == 15 * photos


def test_strip_shows_photo_truth_and_prediction_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    one = strip()
    one.photo[:] = (200, 120, 10)
    write_contact_sheet(path, [one], columns=1, width=40)
    pictures = cv2.imread(str(path))[40:70]
    assert (pictures[:, :40] == (200, 120, 10)).all()
    assert ((pictures[:, 44:84, 0] == 255) == one.truth).all()
    assert ((pictures[:, 88:128, 0] == 255) == one.mask).all()


def test_photos_of_different_shapes(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, [strip(30, 40), strip(80, 20), strip(1, 300)], width=60)
    assert cv2.imread(str(path)).shape[0] == 20 + (20 + 240 + 4) + (20 + 1 + 4)


def test_sizes_must_agree(tmp_path: Path) -> None:
    good = strip()
    with pytest.raises(ValueError, match=r"Straße 7\.jpg"):
        write_contact_sheet(tmp_path / "x.png", [good._replace(mask=good.mask[1:])])
    assert not list(tmp_path.iterdir())
