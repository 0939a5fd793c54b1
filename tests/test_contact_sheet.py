from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog

from crack_data.errors import CrackError
from crack_data.inference.prediction import CrackInstance, CrackPrediction
from crack_data.visualization import (
    FALSE,
    HIT,
    MISSED,
    NEAR_FALSE,
    NEAR_MISSED,
    Strip,
    error_map,
    inspection_strips,
    write_contact_sheet,
)

NAME = "test_contact_sheet"


def strip(height: int = 30, width: int = 240, title: str = "Straße 7.jpg") -> Strip:
    photo = np.full((height, width, 3), 150, np.uint8)
    truth = np.zeros((height, width), np.int32)
    mask = truth.copy()
    truth[height // 3, :30] = 1
    mask[height // 3, 5:20] = 1
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
    write_contact_sheet(path, [strip() for _ in range(photos)])
    sheet = cv2.imread(str(path))
    rows = -(-photos // 2)
    assert sheet.shape == (20 + rows * (20 + 30 + 4), 2 * (4 * 244 - 4) + 16, 3)
    # Each strip shows its truth, its prediction and the green pixels they share.
    greens = (sheet == HIT[::-1]).all(axis=2)[20:].sum()
    assert greens == 15 * photos


def test_strip_shows_photo_truth_and_prediction_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    one = strip()
    one.photo[:] = (200, 120, 10)
    write_contact_sheet(path, [one])
    pictures = cv2.imread(str(path))[40:70]
    assert (pictures[:, :240] == (200, 120, 10)).all()
    assert (pictures[:, 244:484].any(axis=2) == (one.truth > 0)).all()
    assert (pictures[:, 488:728].any(axis=2) == (one.mask > 0)).all()


def test_photos_of_different_shapes(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, [strip(30, 40), strip(80, 20), strip(1, 300)])
    assert cv2.imread(str(path)).shape[0] == 20 + (20 + 960 + 4) + (20 + 1 + 4)


def test_a_line_break_in_a_name_is_a_space(tmp_path: Path) -> None:
    sheets = [tmp_path / "broken.png", tmp_path / "spaced.png"]
    for sheet, title in zip(sheets, ("a\nb.jpg", "a b.jpg"), strict=True):
        write_contact_sheet(sheet, [strip(title=title)])
    assert sheets[0].read_bytes() == sheets[1].read_bytes()


def test_pieces_of_one_instance_have_one_colour(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    one = strip()
    one.truth[:] = 0
    one.truth[5, :10] = one.truth[5, 20:30] = 1
    one.truth[20, :30] = 2
    write_contact_sheet(path, [one])
    truth = cv2.imread(str(path))[40:70, 244:484]
    colours = [tuple(truth[row, column].tolist()) for row, column in ((5, 3), (5, 25), (20, 3))]
    assert colours[0] == colours[1] != colours[2]
    assert (0, 0, 0) not in colours


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    """Photo i is black but for i rows of white, of which the ground truth has the first half."""
    records = []
    for index in range(9):
        photo = np.zeros((20, 30, 3), np.uint8)
        photo[:index] = 255
        truth = np.zeros((20, 30), np.uint8, order="F")
        truth[: index // 2] = 1
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), photo)
        annotations = [{"segmentation": coco_mask.encode(truth)}] if truth.any() else []
        size = {"height": 20, "width": 30}
        about = {"file_name": str(path), "image_id": index, "annotations": annotations}
        records.append(about | size)
    DatasetCatalog.register(NAME, lambda: records)
    yield NAME
    DatasetCatalog.remove(NAME)


def white(photo: np.ndarray) -> CrackPrediction:
    """Predicts the white rows."""
    rows = int((photo[:, 0, 0] > 127).sum())
    found = (CrackInstance(0.9, (0, 0, 30, rows), np.ones((rows, 30), bool)),) if rows else ()
    return CrackPrediction(found, (), photo[:, :, 0].copy(), 0.5, np.zeros(256, int))


def white_rows(strips: Iterator[Strip]) -> list[int]:
    return [int((strip.photo[:, 0, 0] > 127).sum()) for strip in strips]


@pytest.mark.parametrize(
    ("photos", "expected"), [(3, [0, 4, 8]), (1, [0]), (9, list(range(9))), (50, list(range(9)))]
)
def test_photos_are_spread_evenly(dataset: str, photos: int, expected: list[int]) -> None:
    assert white_rows(inspection_strips(dataset, white, photos)) == expected


def test_worst_photos_come_first(dataset: str) -> None:
    """F1 of photo 1, where no crack is, is 0; of 3 it is 1/2, of 5 4/7, of 7 3/5, of others 2/3."""
    assert white_rows(inspection_strips(dataset, white, 4, worst=True)) == [1, 3, 5, 7]
    assert white_rows(inspection_strips(dataset, white, 50, worst=True))[-1] == 0


def test_titles_tell_how_good_a_prediction_is(dataset: str) -> None:
    first, *_, last = inspection_strips(dataset, white, 9)
    assert first.title == "0.png: no crack; 0.00 % true, 0.00 % predicted"
    assert last.title == "8.png: F1 0.67; 20.00 % true, 40.00 % predicted"
    assert np.count_nonzero(last.truth) * 2 == np.count_nonzero(last.mask) == 8 * 30


def test_sheet_of_a_dataset(dataset: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, inspection_strips(dataset, white, 4))
    assert cv2.imread(str(path)).shape[0] == 20 + 2 * (20 + 160 + 4)


def test_photo_that_is_gone_or_another(dataset: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((21, 30, 3), np.uint8))
    with pytest.raises(CrackError, match=r"0\.png has 30x21 px, but its data set says 30x20"):
        next(inspection_strips(dataset, white))
    (tmp_path / "0.png").unlink()
    with pytest.raises(CrackError, match=r"0\.png"):
        next(inspection_strips(dataset, white))
