"""COCO JSON as tools and people write it is completed where that is possible."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from crack_data.annotations import read_records
from crack_data.errors import CrackError
from crack_data.segmentation import decode_mask, ignored_pixels, instance_masks, union_mask

from .coco_files import (
    Change,
    Coco,
    category,
    crack,
    image,
    records_of,
    rle_of,
    thin_crack,
    two_photos,
    without,
)


@pytest.fixture
def mask() -> np.ndarray:
    return thin_crack()


@pytest.fixture
def coco(tmp_path: Path, mask: np.ndarray) -> Coco:
    return two_photos(tmp_path, mask)


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = np.concatenate([[0], mask.ravel("F"), [2]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff([0, *edges]) if not mask[0, 0] else np.diff([0, 0, *edges])
    return {"size": list(mask.shape), "counts": counts.tolist()}


def contours(mask: np.ndarray) -> list[list[int]]:
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour.ravel().tolist() for contour in found]


COMPLETED: dict[str, Change] = {
    "as it should be": lambda coco: None,
    "no area": without("area"),
    "no iscrowd": without("iscrowd"),
    "no bbox": without("bbox"),
    "no annotation id": without("id"),
    "no category id": without("category_id"),
    "text for image id": crack(image_id="0"),
    "text for photo id": image(id="0"),
    "a float for image id": crack(image_id=0.0),
    "no width": lambda coco: coco["images"][0].pop("width"),
    "no size": image(height=None, width=0),
    "size as text": image(height="20", width="30"),
    "category 0": category((0, "crack", ""), used=0),
    "category 5": category((5, "crack", ""), used=5),
    "capitals": category((1, "Crack", "")),
    "plural": category((1, "CRACKS", "")),
    "Roboflow's group": category((0, "cracks-abc", "none"), (1, "crack", "cracks-abc")),
    "group of the same name": category((0, "crack", "none"), (1, "crack", "crack")),
    "Windows": image(file_name=".\\a.png"),
    "a folder that is not there": image(file_name="upload/1/a.png"),
    "Label Studio's upload": image(file_name="images/61148fa2-a.png"),
    "Label Studio's local file": image(file_name="/data/local-files/?d=A.png"),
    "a URL": image(file_name="https://example.org/photos/a.png?v=1"),
    "another ending": image(file_name="a.JPG"),
    "no info": lambda coco: coco.update(info=None),
    "info as text": lambda coco: coco.update(info="mine"),
    "painted in CVAT": crack(iscrowd=1, attributes={"occluded": False}),
    "run lengths in a list": lambda coco: coco["annotations"][0].update(
        segmentation=[coco["annotations"][0]["segmentation"]]
    ),
}


@pytest.mark.parametrize("change", COMPLETED.values(), ids=COMPLETED)
def test_what_can_be_computed_is(
    change: Change, coco: Coco, mask: np.ndarray, tmp_path: Path
) -> None:
    change(coco)
    first, second = records_of(coco, tmp_path)
    assert os.path.samefile(first["file_name"], tmp_path / "a.png")
    assert (first["height"], first["width"]) == (20, 30)
    assert np.array_equal(union_mask(first), mask > 0)
    (annotation,) = first["annotations"]
    x, y, width, height = cv2.boundingRect(mask)
    assert annotation["bbox"] == [x, y, width, height]
    assert (annotation["category_id"], annotation["iscrowd"]) == (0, 0)
    assert second["annotations"] == []


@pytest.mark.parametrize("kind", [rle_of, uncompressed, contours])
def test_every_kind_of_segmentation_gives_the_same_pixels(
    kind: Callable[[np.ndarray], Any], coco: Coco, mask: np.ndarray, tmp_path: Path
) -> None:
    crack(segmentation=kind(mask))(coco)
    assert np.array_equal(union_mask(records_of(coco, tmp_path)[0]), mask > 0)


@pytest.mark.parametrize(
    "polygon",
    [
        [[2, 3, 9, 3, 9, 8, 2, 8]],
        [2.0, 3.0, 9.0, 3.0, 9.0, 8.0, 2.0, 8.0],
        [[[2, 3], [9, 3], [9, 8], [2, 8]]],
        [[2, 3, 5, 3, 5, 8, 2, 8], [5, 3, 9, 3, 9, 8, 5, 8]],
    ],
)
def test_polygons_however_they_are_nested(polygon: Any, coco: Coco, tmp_path: Path) -> None:
    crack(segmentation=polygon)(coco)
    expected = np.zeros((20, 30), bool)
    expected[3:8, 2:9] = True
    record = records_of(coco, tmp_path)[0]
    assert np.array_equal(union_mask(record), expected)
    assert len(list(instance_masks(record))) == 1
    assert np.array_equal(decode_mask([[2, 3, 9, 3, 9, 8, 2, 8]], 20, 30), expected)


def test_instances_and_ignored_pixels_are_kept_apart(
    coco: Coco, mask: np.ndarray, tmp_path: Path
) -> None:
    other = np.ascontiguousarray(mask[::-1])
    row = coco["annotations"][0]
    coco["annotations"] += [
        {**row, "id": 2, "segmentation": rle_of(other)},
        {**row, "id": 3, "segmentation": rle_of(1 - mask), "iscrowd": 1},
    ]
    first, second = records_of(coco, tmp_path)
    masks = list(instance_masks(first))
    assert [np.array_equal(a, b > 0) for a, b in zip(masks, (mask, other), strict=True)] == [
        True
    ] * 2
    assert np.array_equal(union_mask(first), (mask | other) > 0)
    assert np.array_equal(ignored_pixels(first), mask == 0)
    assert not ignored_pixels(second).any()
    assert not union_mask(second).any()
    assert list(instance_masks(second)) == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("set.json", "labels/images"),
        ("set.json", "images"),
        ("instances_default.json", "images/default"),
        ("instances_train2017.json", "train2017"),
    ],
)
def test_photos_are_looked_for_near_the_json(
    name: str, place: str, coco: Coco, tmp_path: Path
) -> None:
    for folder in ("labels", place, "images/other"):
        (tmp_path / folder).mkdir(exist_ok=True, parents=True)
    for photo in ("a.png", "b.png"):
        shutil.copy(tmp_path / photo, tmp_path / "images/other")
        (tmp_path / photo).rename(tmp_path / place / photo)
    path = tmp_path / "labels" / name
    path.write_text(json.dumps(coco))
    first, _ = read_records(str(path))
    assert os.path.samefile(first["file_name"], tmp_path / place / "a.png")
    first, _ = read_records(str(path), tmp_path / "images")
    assert os.path.dirname(first["file_name"]).startswith(str(tmp_path / "images"))
    path.write_text(json.dumps({**coco, "info": {"image_root": "elsewhere"}}))
    with pytest.raises(CrackError, match=r"2 of 2 photos .*labels/elsewhere .*image_root"):
        read_records(str(path))


def test_a_stated_folder_changes_neither_pixels_nor_the_search_for_names(
    coco: Coco, mask: np.ndarray, tmp_path: Path
) -> None:
    """Who adds ``image_root`` to a JSON of another tool does not make it the converter's."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    crack(segmentation=[x.ravel().tolist() for x in contours])(coco)
    (tmp_path / "photos").mkdir()
    for row in coco["images"]:
        (tmp_path / row["file_name"]).rename(tmp_path / "photos" / row["file_name"])
        row["file_name"] = f"D:\\bridge\\{row['file_name'].upper()}"
    first, _ = records_of({**coco, "info": {"image_root": "photos"}}, tmp_path)
    assert np.array_equal(union_mask(first), mask > 0)
    image(width=31)(coco)
    with pytest.raises(CrackError, match="annotated at 31x20 px"):
        records_of({**coco, "info": {"image_root": "photos"}}, tmp_path)


def test_a_backslash_may_be_part_of_a_name(coco: Coco, tmp_path: Path) -> None:
    (tmp_path / "a.png").rename(tmp_path / "a\\b.png")
    image(file_name="a\\b.png")(coco)
    assert records_of(coco, tmp_path)[0]["file_name"] == str(tmp_path / "a\\b.png")


def test_names_that_are_not_utf_8_or_written_otherwise(coco: Coco, tmp_path: Path) -> None:
    latin, composed = os.fsdecode(b"br\xfccke.png"), "Br\u00fccke.png"
    (tmp_path / "a.png").rename(tmp_path / latin)
    (tmp_path / "b.png").rename(tmp_path / composed)
    image(file_name=latin)(coco)
    coco["images"][1]["file_name"] = "Bru\u0308cke.png"
    first, second = records_of(coco, tmp_path)
    assert os.path.isfile(first["file_name"])
    assert os.path.isfile(second["file_name"])
    path = tmp_path / "set.json"
    text = json.dumps(coco, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode(errors="surrogateescape"))
    assert read_records(str(path)) == [first, second]


def test_a_backslash_may_be_part_of_the_recorded_folders_name(coco: Coco, tmp_path: Path) -> None:
    folder = tmp_path / "we\\ird"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / name).rename(folder / name)
    records = records_of({**coco, "info": {"image_root": "we\\ird"}}, tmp_path)
    assert records[0]["file_name"] == str(folder / "a.png")
