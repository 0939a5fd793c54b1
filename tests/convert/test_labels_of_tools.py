"""Labels as labelme and YOLO write them become the same masks."""

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
    masks = masks_of(convert_labels(images, _labelme(images.parent / "drawn", [shape])))
    assert np.array_equal(masks["a.jpg"][0], polygon_mask())


@pytest.mark.parametrize("tool", ["labelme", "yolo"])
def test_contours_from_pixel_to_pixel_keep_their_rim(tool: str, images: Path) -> None:
    """As scripts write them, which take masks and OpenCV to labels; as in a COCO JSON."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.line(mask, (5, 3), (50, 30), 1, 3)
    (contour,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = contour.reshape(-1, 2)
    if tool == "labelme":
        labels = _labelme(images.parent / "drawn", [{"points": points.tolist()}])
    else:
        shares = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points.tolist())
        labels = _yolo(images, f"0 {shares}")
    (found,) = masks_of(convert_labels(images, labels))["a.jpg"]
    assert np.array_equal(found, mask)


def test_masks_may_be_pieces_of_a_group_and_must_lie_in_the_photo(images: Path) -> None:
    mask = {"shape_type": "mask", "points": [[10, 5], [49, 8]], "mask": _png(BLOCK), "group_id": 1}
    polygon = {"points": [[10, 20], [30, 20], [30, 24], [10, 24]], "group_id": 1}
    folder = _labelme(images.parent / "drawn", [mask, polygon])
    (found,) = masks_of(convert_labels(images, folder))["a.jpg"]
    assert found.sum() == polygon_mask().sum() + 20 * 4
    for corner in ([30, 5], [-1, 5]):
        _labelme(folder, [mask | {"points": [corner]}])
        with pytest.raises(CrackError, match=r"shape 0 of .*mask that reaches beyond its photo"):
            convert_labels(images, folder)


def test_labels_among_the_photos_are_read_and_not_counted_as_unread(images: Path) -> None:
    shape = {"label": "crack ", "points": [[10, 5], [50, 5], [50, 9], [10, 9]]}
    other = {"label": "rust", "points": shape["points"]}
    (images / "notes.pdf").touch()
    notes = convert_labels(images, _labelme(images, [shape, other])).notes
    assert "not read, of other kinds than photos and masks: 1 .pdf" in notes
    notes = convert_labels(images, _labelme(images.parent / "drawn", [shape])).notes
    assert "not read, of other kinds than photos and masks: 1 .json, 1 .pdf" in notes


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("y", [20, 20.5])
def test_lines_get_a_width(width: int, y: float, images: Path) -> None:
    line = {"shape_type": "linestrip", "points": [[10.5, y], [30.5, y], [49.5, y]]}
    folder = _labelme(images.parent / "drawn", [line])
    (mask,) = masks_of(convert_labels(images, folder, line_width=width))["a.jpg"]
    assert mask[:, 15:45].sum(axis=0).tolist() == [width] * 30
    assert abs(np.flatnonzero(mask[:, 20]).mean() + 0.5 - y) <= 0.5


def test_labelme_groups_are_one_instance_and_points_are_refused(images: Path) -> None:
    pieces = [
        {"points": [[10, y], [30, y], [30, y + 3], [10, y + 3]], "group_id": group}
        for y, group in ((2, 1), (10, 1), (20, None), (30, None))
    ]
    pieces[1]["label"] = "Crack "
    folder = _labelme(images.parent / "drawn", pieces)
    assert len(masks_of(convert_labels(images, folder))["a.jpg"]) == 3
    point = {"shape_type": "point", "points": [[1, 2]]}
    _labelme(images.parent / "drawn", [point, *pieces])
    with pytest.raises(CrackError, match=r"shape 0 of .*a\.json is a point of 1 points"):
        convert_labels(images, folder)
    _labelme(images.parent / "drawn", [point | {"label": "manhole"}, *pieces])
    result = convert_labels(images, folder)
    assert len(masks_of(result)["a.jpg"]) == 3
    assert "labels of other categories, left out: manhole (1)" in result.notes


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
            write_coco(images, rows).rename(drawn / folder / "_annotations.coco.json")
        else:
            shapes = [shape | {"points": np.reshape(x, (4, 2)).tolist()} for x in (POLYGON, OTHER)]
            content = {"shapes": shapes[:number], "imagePath": stated}
            (drawn / folder / "a.json").write_text(json.dumps(content))
    result = convert_labels(images, drawn)
    lengths = {name: len(found) for name, found in masks_of(result).items()}
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
        convert_labels(images, folder)
    (images.parent / "data.yaml").write_text("names: [rust, crack]\n")
    result = convert_labels(images, folder)
    masks = masks_of(result)
    assert [len(masks["a.jpg"]), len(masks["sub/b.jpg"])] == [1, 0]
    assert np.array_equal(masks["a.jpg"][0], polygon_mask())
    assert "labels of other categories, left out: rust (1)" in result.notes
    (images.parent / "data.yaml").write_text("names: [crack]\n")
    with pytest.raises(CrackError, match=r"line 1 of .*a\.txt is of class 1, which the list of"):
        convert_labels(images, folder)


def test_yaml_that_is_none_of_yolos_is_passed_over(images: Path) -> None:
    folder = _yolo(images, "1 .2 .2 .8 .2 .8 .8\n0 .2 .2 .8 .2 .8 .4")
    (folder / "a_team.yaml").write_text("names: [alice, bob]\n")  # names without any key of YOLO's
    (images.parent / "deploy.yaml").write_text("kind: A\n---\nkind: B\n")
    (images.parent / "mkdocs.yml").write_text("site: !ENV SITE\n")
    (images.parent / "other.yaml").write_bytes(b"path: \xe9\nname: {{ here }}\n")
    with pytest.raises(CrackError, match=r"0 \(1\), 1 \(1\); say which are cracks"):
        convert_labels(images, folder)
    for name, classes in (("y.yml", "[joint, crack]"), ("z.yaml", "{0: joint, 1: crack}")):
        (images.parent / name).write_text(f"names: {classes}\nnc: 2\n")
    assert "left out: joint (1)" in convert_labels(images, folder).notes[-1]
    (images.parent / "x.yaml").write_text("names: [crack, joint]\ntrain: images\n")
    with pytest.raises(CrackError, match=r"x\.yaml and .*z\.yaml list different classes; keep one"):
        convert_labels(images, folder)
    (images.parent / "data.yml").write_text("names: [rust, crack]\n")
    assert "left out: rust (1)" in convert_labels(images, folder).notes[-1]


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
    result = convert_labels(root, root)
    assert [len(masks) for masks in masks_of(result).values()] == [1, 1]
    assert result.masks_without_photo == [f"README.dataset ({root})"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("labels/a.txt", b"0 \xe9", r"a\.txt cannot be read as UTF-8"),
        ("classes.txt", b"Ri\xdf", r"classes\.txt cannot be read as UTF-8"),
        ("data.yaml", b"names: [a", r"data\.yaml does not list the names"),
        ("labels/a.json", b'{"shapes": [1]}', r"a\.json cannot be used"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "circle", "points": []}]}',
         "no list of numbers"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": [[NaN, 1], [2, 2]]}]}',
         "no list of numbers"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": [[1, 1], [2]]}]}',
         r"shape 0 of .*a\.json"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": [[1, 1, 1]]}]}',
         r"shape 0 of .*a\.json"),
        ("labels/a.json", b'{"shapes": [{"shape_type": "line", "points": ["a", "b"]}]}',
         r"shape 0 of .*a\.json"),
        ("data.yaml", b"names: crack", r"data\.yaml does not list the names"),
    ],
)  # fmt: skip
def test_damaged_label_files_are_named(name: str, data: bytes, message: str, images: Path) -> None:
    folder = _yolo(images, "")
    (images.parent / name).write_bytes(data)
    with pytest.raises(CrackError, match=message):
        convert_labels(images, folder)


@pytest.mark.parametrize("without", ["leave-out", "crack-free"])
@pytest.mark.parametrize(("suffix", "text"), [("json", '{"shapes": ['), ("txt", "0 0.5 0.5")])
def test_damaged_files_among_others_are_left_out_on_request(
    suffix: str, text: str, without: str, images: Path
) -> None:
    ring = " ".join(str(v / s) for v, s in zip(POLYGON, [WIDTH, HEIGHT] * 4, strict=True))
    folder = _yolo(images, f"0 {ring}")
    if suffix == "json":
        _labelme(folder, [{"points": np.reshape(POLYGON, (4, 2)).tolist()}])
        (folder / "notes.json").write_text(text)  # of no photo
    (folder / "sub" / f"b.{suffix}").write_text(text)
    with pytest.raises(CrackError, match=rf"(b|notes)\.{suffix} "):
        convert_labels(images, folder, without_mask=without)
    if (suffix, without) == ("json", "crack-free"):  # whose labels were in it?
        with pytest.raises(CrackError, match=r"crack-free needs them.*\n.*notes\.json cannot be"):
            convert_labels(images, folder, without_mask=without, skip_bad=True)
        (folder / "notes.json").unlink()
    result = convert_labels(images, folder, without_mask=without, skip_bad=True)
    assert "sub/b.jpg" not in masks_of(result)
    assert len(masks_of(result)["a.jpg"]) == 1
    assert len(result.bad_files()) == 1 + (folder / "notes.json").exists()


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1 0.1 0.3", "crack here"])
def test_yolo_boxes_are_no_outlines(text: str, images: Path) -> None:
    folder = _yolo(images, text)
    with pytest.raises(CrackError, match=r"line 1 of .*a\.txt is"):
        convert_labels(images, folder)
    with pytest.raises(
        CrackError, match=r"category 0; it has none; besides, line 1 of .*a\.txt is"
    ):
        convert_labels(images, folder, categories=("0",))


def test_shapes_that_lack_something_are_named(images: Path) -> None:
    folder = _labelme(images.parent / "drawn", [{"shape_type": "polygon"}])
    with pytest.raises(CrackError, match=r"shape 0 of .*a\.json lacks 'points'"):
        convert_labels(images, folder)
    for points in ([], None, [[1, 2, 3]] * 3, [["x", 2]] * 3, [[float("nan"), 2]] * 2):
        _labelme(folder, [{"shape_type": "circle", "points": points}])
        with pytest.raises(CrackError, match=r"shape 0 of .* no list of numbers \[x, y\]"):
            convert_labels(images, folder)


def test_a_speck_in_the_corner_pixel_of_yolo_s_is_counted(images: Path) -> None:
    folder = images.parent / "drawn"
    folder.mkdir()
    shares = " ".join(
        f"{x / side:.6f}" for x, side in zip(POLYGON, [WIDTH, HEIGHT] * 4, strict=True)
    )
    (folder / "a.txt").write_text(f"0 {shares}\n0 0 0 0.001 0 0.001 0.001\n")
    result = convert_labels(images, folder)
    assert len(masks_of(result)["a.jpg"]) == 1
    assert "labels that cover no pixel of their photo, left out: 1" in result.notes
    (folder / "a.txt").write_text("0 -3 -3 -4 -3 -4 -4\n")
    with pytest.raises(CrackError, match="far outside its photo of 60 x 40 px"):
        convert_labels(images, folder)
