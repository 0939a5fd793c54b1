"""Labels as CVAT, Label Studio, Roboflow, labelme and YOLO write them become the same masks."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from crack_data.convert.coco import encode_mask
from crack_data.convert.conversion import ConversionResult, convert
from crack_data.convert.worker import ConversionOptions
from crack_data.errors import CrackError

WIDTH, HEIGHT = 60, 40
POLYGON = [10, 5, 50, 5, 50, 9, 10, 9]
OTHER = [10, 20, 30, 20, 30, 24, 10, 24]
BLOCK = np.ones((4, 40), np.uint8)  # POLYGON's pixels, at 10, 5


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("a.jpg", "sub/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (120, 120, 120)).save(folder / name)
    return folder


def _convert(images: Path, labels: Path, **changes: Any) -> ConversionResult:
    output = images.parent / "out.json"
    return convert(ConversionOptions(images, None, output, labels=labels, **changes))


def _masks(result: ConversionResult) -> dict[str, list[np.ndarray]]:
    coco = COCO(str(result.outputs[""]))
    return {
        image["file_name"]: [coco.annToMask(each) for each in coco.imgToAnns[image["id"]]]
        for image in coco.imgs.values()
    }


def _coco(folder: Path, annotations: list[dict[str, Any]], **changes: Any) -> Path:
    content: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 3, "name": "Crack"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3} | each for each in annotations],
    }
    path = folder.parent / "labels.json"
    path.write_text(json.dumps(content | changes), "utf-8")
    return path


def _expected() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:9, 10:50] = 1
    return mask


RLE = encode_mask(BLOCK, 10, 5, (HEIGHT, WIDTH))
PLAIN_RLE = {"size": [HEIGHT, WIDTH], "counts": [10 * HEIGHT + 5, *[4, 36] * 39, 4,
                                                 31 + 10 * HEIGHT]}  # fmt: skip


@pytest.mark.parametrize("segmentation", [[POLYGON], RLE, PLAIN_RLE])
def test_coco_of_every_kind(segmentation: Any, images: Path) -> None:
    masks = _masks(_convert(images, _coco(images, [{"segmentation": segmentation}])))
    assert list(masks) == ["a.jpg"]
    assert np.array_equal(masks["a.jpg"][0], _expected())


def test_pieces_stay_together_and_annotations_apart(images: Path) -> None:
    pieces = [POLYGON, OTHER]
    labels = _coco(images, [{"segmentation": pieces}, {"segmentation": [POLYGON]}])
    found = _masks(_convert(images, labels))["a.jpg"]
    assert len(found) == 2  # the second lies on the first
    assert cv2.connectedComponents(found[0])[0] == 3
    found = _masks(_convert(images, labels, instances="single"))["a.jpg"]
    assert len(found) == 1


def test_a_label_that_stands_twice_counts_once(images: Path) -> None:
    twice = [{"segmentation": [POLYGON]}, {"segmentation": RLE}, {"segmentation": [OTHER]}]
    result = _convert(images, _coco(images, twice))
    assert len(_masks(result)["a.jpg"]) == result.records[0].instances == 2
    assert "labels that stand twice, counted once: 1" in result.notes


@pytest.mark.parametrize("labels", [".", "out_val.json"])
def test_labels_are_not_overwritten(labels: str, images: Path) -> None:
    path = _coco(images, [{"segmentation": [POLYGON]}]).rename(images.parent / "out_val.json")
    before = path.read_bytes()
    with pytest.raises(CrackError, match=r"--output .*out_\w+\.json would overwrite the labels"):
        _convert(images, images.parent / labels, shares={"train": 0.5, "val": 0.5})
    assert path.read_bytes() == before


def test_crowds_are_ignored_pixels(images: Path) -> None:
    labels = _coco(images, [{"segmentation": [OTHER]}, {"segmentation": RLE, "iscrowd": 1}])
    result = _convert(images, labels)
    assert result.records[0].instances == 1
    entries = json.loads(result.outputs[""].read_text())["annotations"]
    assert [entry["iscrowd"] for entry in entries] == [0, 1]
    assert entries[1]["segmentation"] == RLE


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "images/a.jpg", "C:\\data\\a.jpg", "61148fa2-a.jpg", "upload/1/61148fa2-a.jpg",
     "b.png"],
)  # fmt: skip
def test_photos_are_found_by_the_names_that_tools_give_them(name: str, images: Path) -> None:
    image = {"id": "7", "file_name": name}
    result = _convert(images, _coco(images, [{"segmentation": [POLYGON]}], images=[image]))
    assert result.records[0].instances == 1
    assert result.records[0].file_name == ("sub/b.jpg" if name == "b.png" else "a.jpg")


def test_photos_and_labels_without_each_other_are_listed(images: Path) -> None:
    listed = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "gone.jpg"}]
    labels = _coco(images, [{"segmentation": [POLYGON]}], images=listed)
    result = _convert(images, labels)
    assert [Path(path).name for path in result.photos_without_mask] == ["b.jpg"]
    assert result.masks_without_photo == [f"gone.jpg ({labels})"]
    crack_free = _convert(images, labels, without_mask="crack-free")
    assert [record.instances for record in crack_free.records] == [1, 0]


def test_labels_of_a_missing_photo_go_to_no_other(images: Path) -> None:
    (images / "a.jpg").rename(images / "sub/a.jpg")
    listed = [{"id": i, "file_name": f"{folder}/a.jpg"} for i, folder in enumerate(["sub", "x"])]
    rows = [{"segmentation": [POLYGON], "image_id": i} for i in (0, 1)]
    result = _convert(images, _coco(images, rows, images=listed))
    assert [record.instances for record in result.records] == [1]
    assert [entry.split()[0] for entry in result.masks_without_photo] == ["x/a.jpg"]


def test_categories(images: Path) -> None:
    names = {3: "Crack", 0: "defects", 5: "rust"}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    annotations = [{"segmentation": [POLYGON]}, {"segmentation": [OTHER], "category_id": 5}]
    labels = _coco(images, annotations, categories=categories)
    result = _convert(images, labels)
    assert result.records[0].instances == 1
    assert "labels of other categories, left out: rust (1)" in result.notes
    assert _convert(images, labels, categories=("crack", "RUST")).records[0].instances == 2
    with pytest.raises(CrackError, match=r"no labels of category moss; it has Crack \(1\), rust"):
        _convert(images, labels, categories=("moss",))
    categories[0]["name"] = "fissure"
    with pytest.raises(CrackError, match=r"fissure \(1\), rust \(1\); say which .*--category"):
        _convert(images, _coco(images, annotations, categories=categories))


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"bbox": [1, 2, 3, 4]}, r"annotation 1 of .*labels\.json has no segm.*a box is no mask"),
        ({"segmentation": []}, r"annotation 1 of .*labels\.json has no segm.*a box is no mask"),
        ({"segmentation": "x"}, "annotation 1 of .* has a segmentation of the type str"),
        ({"segmentation": [[1, 2, 3]]}, "annotation 1 of .* has a polygon of 3 numbers"),
        ({"segmentation": [POLYGON], "image_id": 9}, "is of image 9, which is not in it"),
        ({"segmentation": [[90, 90, 95, 90, 95, 95]]}, "annotation 1 of .* covers no pixel"),
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
        _convert(images, _coco(images, [annotation]))


def test_labels_for_another_size_are_refused(images: Path) -> None:
    image = {"id": 7, "file_name": "a.jpg", "width": HEIGHT, "height": WIDTH}
    with pytest.raises(CrackError, match="for 40x60 px but its photo is 60x40 px"):
        _convert(images, _coco(images, [{"segmentation": [POLYGON]}], images=[image]))


@pytest.mark.parametrize("content", ["", "[1]", '{"images": []}'])
def test_files_of_other_content(content: str, images: Path) -> None:
    path = images.parent / "labels.json"
    path.write_text(content)
    with pytest.raises(CrackError, match=r"labels\.json (cannot be read|is not a COCO)"):
        _convert(images, path)
    with pytest.raises(CrackError, match="does not exist"):
        _convert(images, images.parent / "nowhere")
    (images.parent / "empty").mkdir()
    with pytest.raises(CrackError, match="holds neither"):
        _convert(images, images.parent / "empty")


def _labelme(folder: Path, shapes: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    shapes = [{"label": "crack", "group_id": None} | shape for shape in shapes]
    content = {"shapes": shapes, "imagePath": "..\\images\\a.jpg",
               "imageWidth": WIDTH, "imageHeight": HEIGHT}  # fmt: skip
    (folder / "a.json").write_text(json.dumps(content), "utf-8")
    return folder


def _png(mask: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(mask * np.uint8(255)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize(
    "shape",
    [
        {"shape_type": "polygon", "points": [[10, 5], [50, 5], [50, 9], [10, 9]]},
        {"shape_type": "rectangle", "points": [[10, 5], [50, 9]]},
        {"shape_type": "mask", "points": [[10, 5], [49, 8]], "mask": _png(BLOCK)},
    ],
)
def test_labelme_areas(shape: dict[str, Any], images: Path) -> None:
    masks = _masks(_convert(images, _labelme(images.parent / "drawn", [shape])))
    assert np.array_equal(masks["a.jpg"][0], _expected())


@pytest.mark.parametrize("width", [1, 3, 5])
def test_lines_get_a_width(width: int, images: Path) -> None:
    line = {"shape_type": "linestrip", "points": [[10.5, 20.5], [30.5, 20.5], [49.5, 20.5]]}
    folder = _labelme(images.parent / "drawn", [line])
    (mask,) = _masks(_convert(images, folder, line_width=width))["a.jpg"]
    assert mask[:, 15:45].sum(axis=0).tolist() == [width] * 30
    assert np.flatnonzero(mask[:, 20]).mean() == 20


def test_labelme_groups_are_one_instance_and_points_are_refused(images: Path) -> None:
    pieces = [
        {"points": [[10, y], [30, y], [30, y + 3], [10, y + 3]], "group_id": group}
        for y, group in ((2, 1), (10, 1), (20, None), (30, None))
    ]
    folder = _labelme(images.parent / "drawn", pieces)
    assert len(_masks(_convert(images, folder))["a.jpg"]) == 3
    _labelme(images.parent / "drawn", [{"shape_type": "point", "points": [[1, 2]]}])
    with pytest.raises(
        CrackError, match=r"shape 0 of .*a\.json cannot be used \(a point of 1 points"
    ):
        _convert(images, folder)


@pytest.mark.parametrize("stated", ["a.jpg", "../../images/a.jpg", "COCO"])
def test_labels_of_one_name_lie_as_their_photos(stated: str, images: Path) -> None:
    shape, drawn = {"label": "crack"}, images.parent / "drawn"
    for number, folder in enumerate(["one", "two"], start=1):
        (images / folder).mkdir()
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / folder / "a.jpg")
        (drawn / folder).mkdir(parents=True)
        (drawn / folder / "a.txt").touch()
        if stated == "COCO":
            rows = [{"segmentation": [ring]} for ring in (POLYGON, OTHER)[:number]]
            _coco(images, rows).rename(drawn / folder / "_annotations.coco.json")
        else:
            shapes = [shape | {"points": np.reshape(x, (4, 2)).tolist()} for x in (POLYGON, OTHER)]
            content = {"shapes": shapes[:number], "imagePath": stated}
            (drawn / folder / "a.json").write_text(json.dumps(content))
    result = _convert(images, drawn)
    lengths = {name: len(found) for name, found in _masks(result).items()}
    assert lengths == {"one/a.jpg": 1, "two/a.jpg": 2}
    assert "not read, of other kinds than photos and masks: 2 .txt" in result.notes


def _yolo(images: Path, text: str) -> Path:
    folder = images.parent / "labels"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text(text)
    (folder / "sub" / "b.txt").write_text("")
    return folder


def test_yolo_with_class_names(images: Path) -> None:
    ring = [value / size for value, size in zip(POLYGON, [WIDTH, HEIGHT] * 4, strict=True)]
    lines = [f"{kind} " + " ".join(map(str, ring)) for kind in (1, 0)]
    folder = _yolo(images, "\n".join(lines) + "\n")
    with pytest.raises(CrackError, match=r"0 \(1\), 1 \(1\); say which are cracks"):
        _convert(images, folder)
    (images.parent / "data.yaml").write_text("names: [rust, crack]\n")
    result = _convert(images, folder)
    masks = _masks(result)
    assert [len(masks["a.jpg"]), len(masks["sub/b.jpg"])] == [1, 0]
    assert np.array_equal(masks["a.jpg"][0], _expected())
    assert "labels of other categories, left out: rust (1)" in result.notes


def test_what_yolo_exports_hold_beside_labels(images: Path) -> None:
    ring = " ".join(str(v / s) for v, s in zip(POLYGON, [WIDTH, HEIGHT] * 4, strict=True))
    root = images.parent / "export"
    for split in ("train", "valid"):  # one name in two splits
        for folder in ("images", "labels"):
            (root / split / folder).mkdir(parents=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / split / "images" / "1.jpg")
        (root / split / "labels" / "1.txt").write_text(f"0 {ring}\r\n", "utf-8-sig")
    (root / "README.dataset.txt").write_text("made by a tool\n")
    (root / "train.txt").write_text("train/images/1.jpg\n")
    (root / "obj.names").write_text("crack\n")
    result = _convert(root, root)
    assert [len(masks) for masks in _masks(result).values()] == [1, 1]
    assert result.masks_without_photo == [f"README.dataset ({root})"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("labels/a.txt", b"0 \xe9", r"a\.txt is not UTF-8"),
        ("classes.txt", b"Ri\xdf", r"classes\.txt is not UTF-8"),
        ("data.yaml", b"names: [a", r"data\.yaml is no YAML"),
        ("labels/a.json", b'{"shapes": [1]}', r"shape 0 of .*a\.json cannot be used"),
        ("labels/a.json", b'{"shapes": [{"group_id": []}]}', r"shape 0 of .*a\.json cannot"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "circle", "points": []}]}', "draws no"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": [[NaN, 1], [2, 2]]}]}',
         "not finite"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": [[1, 1], [2]]}]}',
         r"shape 0 of .*a\.json"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": [[1, 1, 1]]}]}',
         r"shape 0 of .*a\.json"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": ["a", "b"]}]}',
         r"shape 0 of .*a\.json"),
        ("data.yaml", b"names: crack", r"data\.yaml: names must list the classes"),
    ],
)  # fmt: skip
def test_damaged_label_files_are_named(name: str, data: bytes, message: str, images: Path) -> None:
    folder = _yolo(images, "")
    (images.parent / name).write_bytes(data)
    with pytest.raises(CrackError, match=message):
        _convert(images, folder)


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1 0.1 0.3", "crack here"])
def test_yolo_boxes_are_no_outlines(text: str, images: Path) -> None:
    with pytest.raises(CrackError, match=r"line 1 of .*a\.txt is"):
        _convert(images, _yolo(images, text))


def test_masks_or_labels_but_not_both(images: Path) -> None:
    for given in ({"masks": None}, {"masks": images, "labels": images}):
        with pytest.raises(CrackError, match="either --masks or --labels"):
            ConversionOptions(images, output=images / "a.json", **given)


def test_two_points_are_a_line_and_shapes_that_lack_something_are_named(images: Path) -> None:
    labels = _coco(images, [{"segmentation": [[10.5, 20.5, 49.5, 20.5]]}])
    (mask,) = _masks(_convert(images, labels))["a.jpg"]
    assert mask[:, 15:45].sum(axis=0).tolist() == [3] * 30
    folder = _labelme(images.parent / "drawn", [{"shape_type": "polygon"}])
    with pytest.raises(CrackError, match=r"shape 0 of .*a\.json cannot be used"):
        _convert(images, folder)


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
