"""Labels as COCO JSON of CVAT, Label Studio and Roboflow become the same masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from crack_data.convert.coco import encode_mask
from crack_data.convert.conversion import convert
from crack_data.convert.worker import ConversionOptions
from crack_data.errors import CrackError

from .labelled import (
    BLOCK,
    HEIGHT,
    OTHER,
    POLYGON,
    WIDTH,
    convert_labels,
    masks_of,
    polygon_mask,
    write_coco,
)

RLE = encode_mask(BLOCK, 10, 5, (HEIGHT, WIDTH))
PLAIN_RLE = {"size": [HEIGHT, WIDTH], "counts": [10 * HEIGHT + 5, *[4, 36] * 39, 4,
                                                 31 + 10 * HEIGHT]}  # fmt: skip


@pytest.mark.parametrize("segmentation", [[POLYGON], RLE, PLAIN_RLE])
def test_coco_of_every_kind(segmentation: Any, images: Path) -> None:
    masks = masks_of(convert_labels(images, write_coco(images, [{"segmentation": segmentation}])))
    assert list(masks) == ["a.jpg"]
    assert np.array_equal(masks["a.jpg"][0], polygon_mask())


def test_pieces_stay_together_and_annotations_apart(images: Path) -> None:
    pieces = [POLYGON, OTHER]
    labels = write_coco(images, [{"segmentation": pieces}, {"segmentation": [POLYGON]}])
    found = masks_of(convert_labels(images, labels))["a.jpg"]
    assert len(found) == 2  # the second lies on the first
    assert cv2.connectedComponents(found[0])[0] == 3
    found = masks_of(convert_labels(images, labels, instances="single"))["a.jpg"]
    assert len(found) == 1


def test_a_label_that_stands_twice_counts_once(images: Path) -> None:
    twice = [{"segmentation": [POLYGON]}, {"segmentation": RLE}, {"segmentation": [OTHER]}]
    result = convert_labels(images, write_coco(images, twice))
    assert len(masks_of(result)["a.jpg"]) == result.records[0].instances == 2
    assert "labels that stand twice, counted once: 1" in result.notes


@pytest.mark.parametrize(
    "ring", [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2], [90, 90, 95, 90, 95, 95], [3, 3] * 3]
)
def test_labels_that_cover_no_pixel_are_left_out_and_counted(
    ring: list[float], images: Path
) -> None:
    rows = [{"segmentation": [POLYGON]}, {"segmentation": [ring]},
            {"segmentation": [ring], "iscrowd": 1}]  # fmt: skip
    result = convert_labels(images, write_coco(images, rows))
    (mask,) = masks_of(result)["a.jpg"]
    assert np.array_equal(mask, polygon_mask())
    assert result.bad_files() == []
    assert "labels that cover no pixel of their photo, left out: 2" in result.notes


@pytest.mark.parametrize("labels", [".", "out_val.json"])
def test_labels_are_not_overwritten(labels: str, images: Path) -> None:
    path = write_coco(images, [{"segmentation": [POLYGON]}]).rename(images.parent / "out_val.json")
    before = path.read_bytes()
    with pytest.raises(CrackError, match=r"--output .*out_\w+\.json would overwrite the labels"):
        convert_labels(images, images.parent / labels, shares={"train": 0.5, "val": 0.5})
    assert path.read_bytes() == before


def test_crowds_are_ignored_pixels(images: Path) -> None:
    cracks = [{"segmentation": [OTHER]}, {"segmentation": [POLYGON]}]  # the second below the crowd
    labels = write_coco(images, [*cracks, {"segmentation": RLE, "iscrowd": 1}])
    result = convert_labels(images, labels)
    assert result.records[0].instances == 2
    entries = json.loads(result.outputs[""].read_text())["annotations"]
    assert [entry["iscrowd"] for entry in entries] == [0, 0, 1]
    assert entries[2]["segmentation"] == RLE


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "images/a.jpg", "C:\\data\\a.jpg", "61148fa2-a.jpg", "upload/1/61148fa2-a.jpg",
     "b.png"],
)  # fmt: skip
def test_photos_are_found_by_the_names_that_tools_give_them(name: str, images: Path) -> None:
    image = {"id": "7", "file_name": name}
    result = convert_labels(
        images, write_coco(images, [{"segmentation": [POLYGON]}], images=[image])
    )
    assert result.records[0].instances == 1
    assert result.records[0].file_name == ("sub/b.jpg" if name == "b.png" else "a.jpg")


def test_photos_and_labels_without_each_other_are_listed(images: Path) -> None:
    listed = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "gone.jpg"}]
    labels = write_coco(images, [{"segmentation": [POLYGON]}], images=listed)
    result = convert_labels(images, labels)
    assert [Path(path).name for path in result.photos_without_mask] == ["b.jpg"]
    assert result.masks_without_photo == [f"gone.jpg ({labels})"]
    crack_free = convert_labels(images, labels, without_mask="crack-free")
    assert [record.instances for record in crack_free.records] == [1, 0]


def test_labels_of_a_missing_photo_go_to_no_other(images: Path) -> None:
    (images / "a.jpg").rename(images / "sub/a.jpg")
    listed = [{"id": i, "file_name": f"{folder}/a.jpg"} for i, folder in enumerate(["sub", "x"])]
    rows = [{"segmentation": [POLYGON], "image_id": i} for i in (0, 1)]
    result = convert_labels(images, write_coco(images, rows, images=listed))
    assert [record.instances for record in result.records] == [1]
    assert [entry.split()[0] for entry in result.masks_without_photo] == ["x/a.jpg"]


def test_categories(images: Path) -> None:
    names = {3: "Crack", 0: "defects", 5: "rust"}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    annotations = [{"segmentation": [POLYGON]}, {"segmentation": [OTHER], "category_id": 5}]
    labels = write_coco(images, annotations, categories=categories)
    result = convert_labels(images, labels)
    assert result.records[0].instances == 1
    assert "labels of other categories, left out: rust (1)" in result.notes
    assert convert_labels(images, labels, categories=("crack", "RUST")).records[0].instances == 2
    with pytest.raises(CrackError, match=r"no labels of category moss; it has Crack \(1\), rust"):
        convert_labels(images, labels, categories=("moss",))
    categories[0]["name"] = "fissure"
    with pytest.raises(CrackError, match=r"fissure \(1\), rust \(1\); say which .*--category"):
        convert_labels(images, write_coco(images, annotations, categories=categories))


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"bbox": [1, 2, 3, 4]}, r"annotation 1 of .*labels\.json has no segm.*a box is no mask"),
        ({"segmentation": []}, r"annotation 1 of .*labels\.json has no segm.*a box is no mask"),
        ({"segmentation": "x"}, "annotation 1 of .* has a segmentation of the type str"),
        ({"segmentation": [[1, 2, 3]]}, "annotation 1 of .* list of numbers .* of three points"),
        ({"segmentation": [20, 10, 5, 2]}, "annotation 1 of .* list of numbers .* of three points"),
        ({"segmentation": [POLYGON, [5, 5, 6, 6]]}, "annotation 1 of .* numbers .* three points"),
        ({"segmentation": [[0.1, 0.2, 0.9, 0.2, 0.9, 0.3]]}, "annotation 1 of .* in shares of the"),
        ({"segmentation": [POLYGON], "image_id": 9}, "is of image 9, which is not in it"),
        (
            {"segmentation": {"size": [9, 9], "counts": [81]}},
            "annotation 1 of .* has an RLE of size",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    annotation: dict[str, Any], message: str, images: Path
) -> None:
    with pytest.raises(CrackError, match=message):
        convert_labels(images, write_coco(images, [annotation]))


def test_labels_for_another_size_are_refused(images: Path) -> None:
    image = {"id": 7, "file_name": "a.jpg", "width": HEIGHT, "height": WIDTH}
    with pytest.raises(CrackError, match="for 40x60 px but its photo is 60x40 px"):
        convert_labels(images, write_coco(images, [{"segmentation": [POLYGON]}], images=[image]))


@pytest.mark.parametrize("content", ["", "[1]", '{"images": []}'])
def test_files_of_other_content(content: str, images: Path) -> None:
    path = images.parent / "labels.json"
    path.write_text(content)
    with pytest.raises(CrackError, match=r"labels\.json (cannot be read|is not a COCO)"):
        convert_labels(images, path)
    with pytest.raises(CrackError, match="does not exist"):
        convert_labels(images, images.parent / "nowhere")
    (images.parent / "empty").mkdir()
    with pytest.raises(CrackError, match="holds neither"):
        convert_labels(images, images.parent / "empty")


def test_masks_or_labels_but_not_both(images: Path) -> None:
    for given in ({"masks": None}, {"masks": images, "labels": images}):
        with pytest.raises(CrackError, match="either --masks or --labels"):
            ConversionOptions(images, output=images / "a.json", **given)
    with pytest.raises(CrackError, match="invert means nothing with --labels"):
        ConversionOptions(images, None, images.parent / "a.json", labels=images, invert="yes")


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    ["cat5", "ls_cat0", "name_Crack", "no_ann_id", "no_area", "no_bbox", "no_iscrowd", "poly",
     "roboflow", "str_image_id"],
)  # fmt: skip
def test_foreign_json_gives_the_pixels_that_training_reads(
    name: str, shared: Path, tmp_path: Path
) -> None:
    folder = shared / "cases/foreign_json"
    options = ConversionOptions(folder, None, tmp_path / "o.json", labels=folder / f"{name}.json")
    areas = {record.file_name: record.crack_area for record in convert(options).records}
    assert areas == {"c0.jpg": 864, "c1.jpg": 631, "c2.jpg": 2478, "c3.jpg": 0, "c5.jpg": 838}


def test_values_are_of_masks(images: Path) -> None:
    labels = write_coco(images, [{"segmentation": [POLYGON]}])
    with pytest.raises(CrackError, match="--instances values means nothing with --labels"):
        convert_labels(images, labels, instances="values")


def test_an_infinite_size_is_none(images: Path) -> None:
    labels = write_coco(images, [{"segmentation": [POLYGON]}])
    labels.write_text(labels.read_text().replace('"width": 60', '"width": 1e999'))
    assert len(masks_of(convert_labels(images, labels))["a.jpg"]) == 1


def test_labels_of_another_category_are_no_cracks_where_crack_is_listed_too(images: Path) -> None:
    listed = [{"id": 3, "name": "Crack"}, {"id": 5, "name": "spalling"}]
    rows = [{"segmentation": [POLYGON], "category_id": 5}]
    result = convert_labels(images, write_coco(images, rows, categories=listed))
    assert masks_of(result)["a.jpg"] == []
    assert "labels of other categories, left out: spalling (1)" in result.notes
    listed[0]["name"] = "rust"  # of those listed none is called crack: the only one drawn it is
    result = convert_labels(images, write_coco(images, rows, categories=listed))
    assert len(masks_of(result)["a.jpg"]) == 1
    listed[0] = {"id": 3, "name": "cracks", "supercategory": "none"}  # as Roboflow lists a project
    listed[1]["supercategory"] = "cracks"
    result = convert_labels(images, write_coco(images, rows, categories=listed))
    assert len(masks_of(result)["a.jpg"]) == 1
