"""COCO JSON that cannot be completed is refused in a sentence, which names the place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crack_data.annotations import read_records
from crack_data.errors import CrackError
from crack_data.segmentation import union_mask

from .coco_files import (
    Change,
    Coco,
    category,
    crack,
    image,
    records_of,
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


NAN = float("nan")
REFUSED: dict[str, tuple[Change, str]] = {
    "no segmentation": (without("segmentation"), r"annotation 1 of .*a box is no mask"),
    "an empty one": (crack(segmentation=[]), r"annotation 1 of .*a box is no mask"),
    "text": (crack(segmentation="x"), "segmentation of the type str"),
    "two points": (crack(segmentation=[[1, 1, 5, 5]]), "list of numbers .* of three points"),
    "odd": (crack(segmentation=[[1, 1, 5, 5, 8, 8, 2]]), "list of numbers .* of three points"),
    "not finite": (crack(segmentation=[[1, 1, 5, NAN, 8, 8]]), "far outside its photo"),
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
    "polygon and RLE": (
        crack(segmentation=[[1, 1, 5, 1, 5, 9], {"size": [20, 30], "counts": [600]}]),
        "three points",
    ),
    "a number among polygons": (crack(segmentation=[[1, 1, 5, 1, 5, 9], 5]), "three points"),
    "counts in words": (crack(segmentation={"size": [20, 30], "counts": ["x"]}), "add up to 600"),
    "one size": (crack(segmentation={"size": 600, "counts": [600]}), "RLE of size 600, but"),
    "points as objects": (crack(segmentation=[[{"x": 1, "y": 1}] * 3]), "three points"),
    "turned": (image(width=20, height=30), r"a\.png has 30x20 px, .* annotated at 20x30 px"),
    "unknown image": (crack(image_id=77), r"annotation 1 of .*set\.json is of image 77"),
    "unknown category": (crack(category_id=9), "annotation 1 of .*category_id 9"),
    "crowd": (crack(iscrowd=7), "iscrowd 7"),
    "crowd in words": (crack(iscrowd="no"), "iscrowd 'no', which is neither"),
    "two that may be one": (
        lambda coco: [row.update(file_name=f"{row['id']}/a.png") for row in coco["images"]],
        r"2 of 2 photos of .*the first: 0/a\.png",
    ),
    "other category": (category((1, "pothole", "")), r"\['pothole'\], and none is called crack"),
    "two of one id": (category((1, "crack", ""), (1, "rust", "")), "two categories of id 1"),
    "no category": (lambda coco: coco.update(categories=[]), "none is called crack"),
    "same id": (image(id=1), r"set\.json lists image id 1 twice"),
    "no image id": (lambda coco: coco["images"][0].pop("id"), "image id None"),
    "a list for image id": (image(id=[1]), r"image id \[1\] twice, or it is no number or name"),
    "no name": (image(file_name=""), r"image number 1 of .*set\.json has no file_name"),
    "same photo": (image(file_name="b.png"), r"lists .*b\.png as 2 images; join them"),
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
        {**row, "id": 4},
    ]
    with caplog.at_level("WARNING"):
        first, _ = records_of(coco, tmp_path)
    assert len(first["annotations"]) == 1
    assert "1 annotations of the category spalling are left out" in caplog.text
    assert "1 annotations that cover no pixel are left out" in caplog.text
    assert "1 annotations that stand twice are left out" in caplog.text


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
