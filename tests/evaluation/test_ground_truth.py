from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog

from crack_data.errors import CrackError
from crack_data.evaluation.ground_truth import GroundTruth, union_mask

HEIGHT, WIDTH = 6, 9


def rle(mask: np.ndarray) -> dict:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.fixture
def dataset() -> Iterator[str]:
    left, right = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    left[1:3, :5] = True
    right[2:5, 3:] = True
    text = rle(right)
    text["counts"] = text["counts"].decode()
    records = [
        {
            "image_id": 7,
            "file_name": "a.png",
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": [{"segmentation": rle(left)}, {"segmentation": text}],
        },
        {"image_id": "b", "file_name": "b.png", "height": 2, "width": 3, "annotations": []},
    ]
    name = "test_ground_truth"
    DatasetCatalog.register(name, lambda: records)
    yield name
    DatasetCatalog.remove(name)


def test_union_of_instances_that_overlap(dataset: str) -> None:
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[1:3, :5] = expected[2:5, 3:] = True
    mask = GroundTruth(dataset).mask(7)
    assert mask.dtype == bool
    assert (mask == expected).all()


def test_photo_without_cracks(dataset: str) -> None:
    mask = GroundTruth(dataset).mask("b")
    assert mask.shape == (2, 3)
    assert not mask.any()


def test_unknown_photo(dataset: str) -> None:
    with pytest.raises(CrackError, match="test_ground_truth has no photo with image_id 8"):
        GroundTruth(dataset).mask(8)


def test_polygons() -> None:
    annotation = {"segmentation": [[1, 1, 5, 1, 5, 3, 1, 3], [6, 4, 8, 4, 8, 5, 6, 5]]}
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[1:3, 1:5] = expected[4:5, 6:8] = True
    assert (union_mask([annotation], HEIGHT, WIDTH) == expected).all()
