"""COCO JSON as tools and people write it: completed where possible, else refused in a sentence."""

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
from pycocotools import mask as coco_mask

from crack_data.annotations import read_records
from crack_data.datasets import decode_mask, ignored_pixels, instance_masks, union_mask
from crack_data.errors import CrackError

Coco = dict[str, Any]
Change = Callable[[Coco], None]


@pytest.fixture
def mask() -> np.ndarray:
    """A thin crack, 20 x 30 px, drawn by OpenCV."""
    mask = np.zeros((20, 30), np.uint8)
    cv2.line(mask, (2, 3), (25, 14), 1, 2)
    return mask


@pytest.fixture
def coco(tmp_path: Path, mask: np.ndarray) -> Coco:
    """Two photos beside the JSON to be, one crack in the first."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((20, 30, 3), 128, np.uint8))
    size = {"height": 20, "width": 30}
    crack = {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "segmentation": rle_of(mask)}
    return {
        "images": [
            {"id": 0, "file_name": "a.png", **size},
            {"id": 1, "file_name": "b.png", **size},
        ],
        "annotations": [{**crack, "bbox": [0, 0, 30, 20], "area": 1.0}],
        "categories": [{"id": 1, "name": "crack"}],
    }


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = np.concatenate([[0], mask.ravel("F"), [2]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff([0, *edges]) if not mask[0, 0] else np.diff([0, 0, *edges])
    return {"size": list(mask.shape), "counts": counts.tolist()}


def contours(mask: np.ndarray) -> list[list[int]]:
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour.ravel().tolist() for contour in found]


def records_of(coco: Coco, folder: Path) -> list[dict[str, Any]]:
    path = folder / "set.json"
    path.write_text(json.dumps(coco))
    return read_records(str(path))


def crack(**changes: Any) -> Change:
    return lambda coco: coco["annotations"][0].update(changes)


def without(key: str) -> Change:
    return lambda coco: coco["annotations"][0].pop(key)


def image(**changes: Any) -> Change:
    return lambda coco: coco["images"][0].update(changes)


def category(*rows: tuple[int, str, str], used: int = 1) -> Change:
    def change(coco: Coco) -> None:
        coco["categories"] = [
            {"id": number, "name": name, "supercategory": group} for number, name, group in rows
        ]
        coco["annotations"][0]["category_id"] = used

    return change


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
    "iscrowd as a word": crack(iscrowd="False"),
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


NAN = float("nan")
REFUSED: dict[str, tuple[Change, str]] = {
    "no segmentation": (without("segmentation"), r"annotation 1 of .*a box is no mask"),
    "an empty one": (crack(segmentation=[]), r"annotation 1 of .*a box is no mask"),
    "null": (crack(segmentation=None), r"annotation 1 of .*a box is no mask"),
    "text": (crack(segmentation="x"), "segmentation of the type str"),
    "two points": (crack(segmentation=[[1, 1, 5, 5]]), "polygon of 4 numbers"),
    "odd": (crack(segmentation=[[1, 1, 5, 5, 8, 8, 2]]), "polygon of 7 numbers"),
    "not finite": (crack(segmentation=[[1, 1, 5, NAN, 8, 8]]), "not finite"),
    "shares": (crack(segmentation=[[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]), "shares of the photo"),
    "far outside": (
        crack(segmentation=[[1, 1, 900, 1, 9, 900]]),
        "far outside its photo of 30 x 20",
    ),
    "another size": (
        crack(segmentation={"size": [30, 20], "counts": "1"}),
        r"size \[30, 20\], but",
    ),
    "short counts": (crack(segmentation={"size": [20, 30], "counts": [5, 9]}), "add up to 600 px"),
    "negative": (crack(segmentation={"size": [20, 30], "counts": [9, -9, 600]}), "add up to 600"),
    "no counts": (crack(segmentation={"size": [20, 30]}), "annotation 1 of"),
    "damaged": (crack(segmentation={"size": [20, 30], "counts": "zzzz999"}), "add up to 600"),
    "endless": (crack(segmentation={"size": [20, 30], "counts": "o" * 99}), "add up to 600"),
    "accents": (crack(segmentation={"size": [20, 30], "counts": "\u00e9"}), "add up to 600"),
    "cut off": (
        lambda coco: coco["annotations"][0]["segmentation"].update(
            counts=coco["annotations"][0]["segmentation"]["counts"][:-3]
        ),
        "add up to 600",
    ),
    "halves": (crack(segmentation={"size": [20, 30], "counts": [9.5, 590.5]}), "add up to 600"),
    "points as objects": (crack(segmentation=[[{"x": 1, "y": 1}] * 3]), "no list of numbers"),
    "turned": (image(width=20, height=30), r"a\.png has 30x20 px, .* annotated at 20x30 px"),
    "many": (
        lambda coco: [row.update(width=99) for row in coco["images"]],
        r"at 99x20 px.*\(2 photos of .*set\.json have faults\)",
    ),
    "unknown image": (crack(image_id=77), r"annotation 1 of .*set\.json is of image 77"),
    "unknown category": (crack(category_id=9), "annotation 1 of .*category_id 9"),
    "crowd": (crack(iscrowd=7), "iscrowd 7"),
    "half a crowd": (crack(iscrowd=0.5), r"iscrowd 0\.5"),
    "two that may be one": (
        lambda coco: [row.update(file_name=f"{row['id']}/a.png") for row in coco["images"]],
        r"2 of 2 photos of .*the first: 0/a\.png",
    ),
    "other category": (category((1, "pothole", "")), r"\['pothole'\], and none is called crack"),
    "no category": (lambda coco: coco.update(categories=[]), "none is called crack"),
    "same id": (image(id=1), r"set\.json lists image id 1 twice"),
    "no image id": (lambda coco: coco["images"][0].pop("id"), "image id None"),
    "no name": (image(file_name=""), r"image number 1 of .*set\.json has no file_name"),
    "same photo": (image(file_name="b.png"), r"lists b\.png as image 0 and as image 1"),
    "missing": (image(file_name="c.png"), r"1 of 2 photos of .*set\.json .*the first: c\.png"),
    "rows": (lambda coco: coco.update(images=[1]), "is not a COCO JSON"),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_computed_is_refused(
    change: Change, sentence: str, coco: Coco, tmp_path: Path
) -> None:
    change(coco)
    with pytest.raises(CrackError, match=sentence) as caught:
        records_of(coco, tmp_path)
    assert str(caught.value).count("\n") == 0


def test_a_photo_that_cannot_be_read_keeps_its_stated_size(coco: Coco, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no photo")
    assert records_of(coco, tmp_path)[0]["width"] == 30
    image(width=None)(coco)
    with pytest.raises(CrackError, match=r"photo .*a\.png: not a photo"):
        records_of(coco, tmp_path)


def test_other_categories_and_empty_masks_are_counted(
    coco: Coco, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    category((1, "crack", ""), (2, "spalling", ""))(coco)
    row = coco["annotations"][0]
    coco["annotations"] += [
        {**row, "id": 2, "category_id": 2},
        {**row, "id": 3, "segmentation": [[3, 3, 3, 3, 3, 3]]},
    ]
    with caplog.at_level("WARNING"):
        first, _ = records_of(coco, tmp_path)
    assert len(first["annotations"]) == 1
    assert "1 annotations of the category spalling are left out" in caplog.text
    assert "1 annotations that cover no pixel are left out" in caplog.text


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


@pytest.mark.shared
def test_shared_cases(shared: Path) -> None:
    cases = sorted((shared / "cases" / "foreign_json").glob("*.json"))
    assert len(cases) >= 12
    for path in cases:
        if path.stem in ("bbox_only", "no_segm_key"):
            with pytest.raises(CrackError, match=r"annotation 1 of .*a box is no mask"):
                read_records(str(path))
        else:
            areas = [int(union_mask(record).sum()) for record in read_records(str(path))]
            assert areas == [864, 631, 2478, 838, 0], path.stem
