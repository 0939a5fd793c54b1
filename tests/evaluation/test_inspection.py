from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog

from crack_data.errors import CrackError
from crack_data.evaluation.contact_sheet import write_contact_sheet
from crack_data.evaluation.inspection import inspection_strips

NAME = "test_inspection"


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
        records.append(
            {
                "file_name": str(path),
                "image_id": index,
                "height": 20,
                "width": 30,
                "annotations": annotations,
            }
        )
    DatasetCatalog.register(NAME, lambda: records)
    yield NAME
    DatasetCatalog.remove(NAME)


def white(photo: np.ndarray) -> np.ndarray:
    return photo[:, :, 0] > 127


@pytest.mark.parametrize(
    ("photos", "expected"), [(3, [0, 4, 8]), (1, [0]), (9, list(range(9))), (50, list(range(9)))]
)
def test_photos_are_spread_evenly(dataset: str, photos: int, expected: list[int]) -> None:
    strips = inspection_strips(dataset, white, photos)
    assert [int(white(strip.photo)[:, 0].sum()) for strip in strips] == expected


def test_titles_tell_how_good_a_prediction_is(dataset: str) -> None:
    first, *_, last = inspection_strips(dataset, white, 9)
    assert first.title == "0.png: no crack; 0.00 % true, 0.00 % predicted"
    assert last.title == "8.png: F1 0.67; 20.00 % true, 40.00 % predicted"
    assert last.truth.sum() * 2 == last.mask.sum() == 8 * 30


def test_sheet_of_a_dataset(dataset: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, inspection_strips(dataset, white, 4), width=30)
    assert cv2.imread(str(path)).shape[0] == 20 + 2 * (20 + 20 + 4)


def test_photo_that_is_gone(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "0.png").unlink()
    with pytest.raises(CrackError, match=r"0\.png"):
        next(inspection_strips(dataset, white))
