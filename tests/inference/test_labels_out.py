"""Labels to correct: what the tools that import them read is the mask that was predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from crack_data.convert.labels import read_labels
from crack_data.convert.worker import draw_label
from crack_data.errors import CrackError
from crack_data.inference.labels_out import FORMATS, check_labels, write_labels
from crack_data.inference.measuring import measure
from crack_data.inference.results import to_json

from .drawn import arc, draw_crack, line, wave
from .test_prediction import prediction_of

SIZE = (200, 300)


def net() -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    for degrees in (10, 60, 100, 160):
        mask |= draw_crack(line((150, 100), 260, degrees), 3, SIZE)
    for radius in (30, 60, 80):
        mask |= draw_crack(arc((150, 100), radius, 0, 360), 2.5, SIZE)
    return mask


MASKS = {
    "wave": draw_crack(wave((10, 100), 260, 60, 120), 3, SIZE),
    "hair": draw_crack(line((150, 100), 240, 37), 1.0, SIZE),
    "pieces": draw_crack(line((80, 50), 90, 20), 4, SIZE)
    | draw_crack(line((200, 150), 120, 170), 6, SIZE),
    "net with holes": net(),
    "noise": np.pad(np.random.default_rng(0).random((40, 60)) < 0.2, ((80, 80), (120, 120))),
    "diagonal": np.eye(*SIZE, dtype=bool),
    "pixel": np.pad(np.ones((1, 1), dtype=bool), ((5, SIZE[0] - 6), (7, SIZE[1] - 8))),
    "pixel in the corner": np.pad(
        np.ones((1, 1), dtype=bool), ((0, SIZE[0] - 1), (0, SIZE[1] - 1))
    ),
    "whole photo": np.ones(SIZE, dtype=bool),
}


def record_of(*masks: np.ndarray, folder: Path) -> dict[str, Any]:
    about = {"name": "bridge/a", "path": str(folder / "photos" / "a.jpg")}
    prediction = prediction_of(*masks)
    return about | to_json(prediction, "bridge/a.jpg", list(map(measure, prediction.instances)))


def differs_at_the_rim_alone(found: np.ndarray, mask: np.ndarray) -> bool:
    square = np.ones((3, 3), np.uint8)
    outside = cv2.dilate(mask.astype(np.uint8), square)
    inside = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return bool(((found == mask) | ((outside == 1) & (inside == 0))).all())


@pytest.mark.parametrize("name", MASKS)
def test_coco_holds_the_mask(name: str, tmp_path: Path) -> None:
    mask = MASKS[name]
    write_labels([record_of(mask, folder=tmp_path)], "coco", str(tmp_path))
    coco = COCO(str(tmp_path / "labels" / "coco.json"))
    (crack,) = coco.anns.values()
    found = coco.annToMask(crack).astype(bool)
    assert differs_at_the_rim_alone(found, mask)
    assert np.count_nonzero(found != mask) <= 0.02 * mask.sum()
    assert crack["area"] == mask.sum()
    assert coco.imgs[1]["file_name"] == "bridge/a.jpg"


@pytest.mark.parametrize("name", MASKS)
def test_labelme_holds_the_mask(name: str, tmp_path: Path) -> None:
    mask = MASKS[name]
    write_labels([record_of(mask, MASKS["wave"], folder=tmp_path)], "labelme", str(tmp_path))
    document = json.loads((tmp_path / "labels" / "bridge" / "a.json").read_text())
    assert document["imagePath"] == "../../photos/a.jpg"
    assert (document["imageHeight"], document["imageWidth"]) == SIZE
    shapes = [x for x in document["shapes"] if x["group_id"] == 1]
    assert len(shapes) == cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
    assert differs_at_the_rim_alone(fill([x["points"] for x in shapes]), mask)


@pytest.mark.parametrize("labels", ["coco", "labelme"])
@pytest.mark.parametrize("name", MASKS)
def test_labels_converted_are_the_masks(labels: str, name: str, tmp_path: Path) -> None:
    masks = [MASKS[name], MASKS["wave"]]
    write_labels([record_of(*masks, folder=tmp_path)], labels, str(tmp_path))
    photo = tmp_path / "photos" / "bridge" / "a.jpg"
    photo.parent.mkdir(parents=True)
    cv2.imwrite(str(photo), np.zeros((*SIZE, 3), np.uint8))
    path = {"coco": "labels/coco.json", "labelme": "labels"}[labels]
    (found,) = read_labels(tmp_path / path, tmp_path / "photos").records
    assert found.photo == str(photo)
    drawn = [draw_label(label, SIZE, 3.0) for label in found.labels]
    assert len(drawn) == 2
    for mask, label in zip(masks, drawn, strict=True):
        assert differs_at_the_rim_alone(label > 0, mask)


def test_label_studio_ties_the_pieces_of_a_crack(tmp_path: Path) -> None:
    mask = MASKS["pieces"]
    write_labels([record_of(mask, folder=tmp_path)], "label-studio", str(tmp_path))
    (task,) = json.loads((tmp_path / "labels" / "label_studio.json").read_text())
    (prediction,) = task["predictions"]
    first, second, relation = prediction["result"]
    assert (relation["from_id"], relation["to_id"]) == (first["id"], second["id"])
    percent = np.array(SIZE[::-1]) / 100
    polygons = [(np.array(x["value"]["points"]) * percent).tolist() for x in (first, second)]
    assert differs_at_the_rim_alone(fill(polygons), mask)
    assert prediction["score"] == 0.9


@pytest.mark.parametrize("labels", FORMATS)
def test_photos_without_cracks_and_unusable_ones(labels: str, tmp_path: Path) -> None:
    record = record_of(MASKS["wave"], folder=tmp_path) | {"instances": []}
    unusable = {"name": "b", "path": "b.jpg", "file_name": "b.jpg", "error": "no photo"}
    write_labels([record, unusable], labels, str(tmp_path))
    (path,) = (tmp_path / "labels").rglob("*.json")
    content = path.read_text()
    assert "b.jpg" not in content
    assert Path(record["file_name"]).name in content
    assert '"points"' not in content
    assert json.loads(content)
    if labels == "coco":
        assert json.loads(content)["annotations"] == []


def test_label_studio_reads_its_tasks_and_exports_the_mask(tmp_path: Path) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter")
    mask, name = MASKS["pieces"], "a b#1+%41.jpg"
    record = record_of(mask, folder=tmp_path) | {"file_name": name}
    write_labels([record], "label-studio", str(tmp_path))
    (task,) = json.loads((tmp_path / "labels" / "label_studio.json").read_text())
    # Accepting a prediction makes an annotation of it.
    accepted = task | {"id": 1, "annotations": [task["predictions"][0] | {"id": 1}]}
    (tmp_path / "export.json").write_text(json.dumps([accepted]))
    config = (
        '<View><Image name="image" value="$image"/><PolygonLabels name="label" toName="image">'
        '<Label value="crack"/></PolygonLabels></View>'
    )
    export = converter.Converter(config, str(tmp_path), download_resources=False)
    export.convert_to_coco(str(tmp_path / "export.json"), str(tmp_path / "coco"), is_dir=False)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / name), np.zeros((*SIZE, 3), np.uint8))
    (found,) = read_labels(tmp_path / "coco" / "result.json", tmp_path / "photos").records
    assert found.file_name == name
    assert len(found.labels) == 2
    drawn = np.any([draw_label(label, SIZE, 3.0) for label in found.labels], axis=0)
    assert differs_at_the_rim_alone(drawn, mask)


def test_corrected_labels_are_not_overwritten(tmp_path: Path) -> None:
    record, file = record_of(MASKS["wave"], folder=tmp_path), tmp_path / "labels" / "coco.json"
    for labels in ("labelme", "coco", "coco"):  # of an earlier run, as it wrote them
        write_labels([record], labels, str(tmp_path))
        check_labels(str(tmp_path))
    files = {x.name for x in file.parent.rglob("*") if x.is_file()}
    assert files == {"coco.json", ".written"}
    file.write_text("corrected")
    for use in (check_labels, lambda folder: write_labels([record], "coco", folder)):
        with pytest.raises(CrackError, match=r"coco\.json is not as it was written.*move"):
            use(str(tmp_path))
    assert file.read_text() == "corrected"


@pytest.mark.parametrize("damaged", ["", "{", "3", "[1]"])
def test_damaged_hashes_of_labels_are_refused(damaged: str, tmp_path: Path) -> None:
    write_labels([record_of(MASKS["wave"], folder=tmp_path)], "coco", str(tmp_path))
    (tmp_path / "labels" / ".written").write_text(damaged)
    with pytest.raises(CrackError, match=r"labels/\.written holds no hashes; move .*labels away"):
        check_labels(str(tmp_path))


def test_labels_of_other_photos_stay(tmp_path: Path) -> None:
    first, second = ({**record_of(MASKS["wave"], folder=tmp_path), "name": x} for x in "ab")
    for records in ([first], [second], [first]):
        write_labels(records, "labelme", str(tmp_path))
    assert sorted(x.name for x in (tmp_path / "labels").glob("*.json")) == ["a.json", "b.json"]
    (tmp_path / "labels" / "b.json").write_text("corrected")
    with pytest.raises(CrackError, match=r"b\.json is not as it was written"):
        write_labels([first], "labelme", str(tmp_path))


def test_datumaro_reads_one_crack_of_two_pieces(tmp_path: Path) -> None:
    """Datumaro is what CVAT imports with."""
    datumaro = pytest.importorskip("datumaro")
    record = record_of(MASKS["pieces"], MASKS["wave"], folder=tmp_path)
    write_labels([record | {"file_name": "a.png"}], "coco", str(tmp_path / "out"))
    for folder in ("annotations", "images"):
        (tmp_path / folder).mkdir()
    file = tmp_path / "out" / "labels" / "coco.json"
    file.rename(tmp_path / "annotations" / "instances_default.json")
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((*SIZE, 3), np.uint8))
    (item,) = datumaro.Dataset.import_from(str(tmp_path), "coco")
    shapes = [x for x in item.annotations if x.type == datumaro.AnnotationType.polygon]
    assert sorted(shape.group for shape in shapes) == [1, 1, 2]
    pieces = [shape.points for shape in shapes if shape.group == 1]
    assert differs_at_the_rim_alone(fill(pieces), MASKS["pieces"])


def test_labelme_reads_its_file(tmp_path: Path) -> None:
    labelme = pytest.importorskip("labelme")
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.jpg"), np.zeros((*SIZE, 3), np.uint8))
    write_labels([record_of(MASKS["pieces"], folder=tmp_path)], "labelme", str(tmp_path))
    file = labelme.LabelFile(str(tmp_path / "labels" / "bridge" / "a.json"))
    assert [(x["label"], x["group_id"], x["shape_type"]) for x in file.shapes] == [
        ("crack", 1, "polygon")
    ] * 2
    assert differs_at_the_rim_alone(fill([x["points"] for x in file.shapes]), MASKS["pieces"])


def fill(polygons: list[Any]) -> np.ndarray:
    flat = [np.ravel(polygon).tolist() for polygon in polygons]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *SIZE))).astype(bool)
