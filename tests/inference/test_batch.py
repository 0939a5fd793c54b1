"""What a prediction run writes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
from detectron2.config import CfgNode
from pycocotools.coco import COCO

from crack_data.errors import CrackError
from crack_data.inference import batch
from crack_data.inference.batch import run_prediction
from crack_data.inference.outputs import OutputOptions
from crack_data.inference.predictor import CrackPredictor
from crack_data.photos import read_photo
from crack_data.storage import PhotoFile, find_photos

from .conftest import write_photo
from .runs import content, run


def test_all_files_of_a_run(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(tiny_cfg, photos, out, mm_per_px=0.5) == 1
    kinds = ("overlay", "mask", "prob")
    pictures = {f"photo{i}_{kind}.png" for i in range(3) for kind in kinds}
    tables = {"predictions.json", "predictions.csv", ".records"}
    assert {x.name for x in out.iterdir()} == pictures | tables
    printed = capsys.readouterr()
    assert "photo1.png: " in printed.out
    assert "photos/s" in printed.out
    assert "broken.jpg" in printed.err

    document = json.loads((out / "predictions.json").read_text())
    assert [x["file_name"] for x in document["images"]] == [f"photo{i}.png" for i in range(3)]
    assert [x["file_name"] for x in document["errors"]] == ["broken.jpg"]
    predictor = CrackPredictor(tiny_cfg)
    for image in document["images"]:
        prediction = predictor(read_photo(photos / image["file_name"]))
        mask = cv2.imread(str(out / f"{image['name']}_mask.png"), cv2.IMREAD_UNCHANGED)
        probability = cv2.imread(str(out / f"{image['name']}_prob.png"), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(mask)) <= {0, 255}
        assert np.array_equal(mask > 0, prediction.mask)
        assert np.array_equal(probability, prediction.probability)
        assert np.array_equal(mask > 0, probability > 255 * image["threshold"])
        assert image["percent_masked"] == pytest.approx(100 * (mask > 0).mean())
        assert mask.any()
        overlay = cv2.imread(str(out / f"{image['name']}_overlay.png"))
        assert overlay.shape == (64, 96, 3)


def test_the_json_is_coco(tiny_cfg: CfgNode, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(tiny_cfg, photos, out)
    coco = COCO(str(out / "predictions.json"))
    results = coco.loadRes(coco.dataset["annotations"])
    for image_id, image in coco.imgs.items():
        mask = cv2.imread(str(out / f"{image['name']}_mask.png"), cv2.IMREAD_UNCHANGED) > 0
        found = [results.annToMask(x) for x in results.imgToAnns[image_id]]
        assert np.array_equal(np.any(found, axis=0), mask)


def test_the_csv_has_a_row_for_each_crack_and_each_bad_photo(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_cfg, photos, out)
    document = json.loads((out / "predictions.json").read_text())
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert len(rows) == len(document["annotations"]) + 1
    assert [x["file_name"] for x in rows if x["error"]] == ["broken.jpg"]
    first = document["annotations"][0]
    row = next(x for x in rows if not x["error"])
    assert float(row["length_px"]) == first["length_px"]
    assert [int(row[x]) for x in ("x", "y", "box_width", "box_height")] == first["bbox"]


def test_subfolders_and_photos_of_one_name(tiny_cfg: CfgNode, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").unlink()
    for name in ("a/photo0.png", "b/photo0.png"):
        (photos / name).parent.mkdir()
        write_photo(photos / name, len(name))
    (photos / "a" / "._photo0.png").write_bytes(b"macOS")
    out = photos / "out"  # results are no photos, of an earlier run of all or half of it either
    for resume in (False, True):
        assert run(tiny_cfg, photos, out, resume=resume) == 0
    names = ["a/photo0", "b/photo0", "photo0", "photo1", "photo2"]
    document = json.loads((out / "predictions.json").read_text())
    assert [x["file_name"] for x in document["images"]] == [f"{name}.png" for name in names]
    assert {f"{name}_mask.png" for name in names} <= content(out).keys()
    rows = csv.DictReader((out / "predictions.csv").open())
    assert {row["file_name"] for row in rows} == {f"{name}.png" for name in names}


def test_a_file_name_in_latin_1(tiny_cfg: CfgNode, photos: Path, tmp_path: Path) -> None:
    write_photo(photos / "wall.png", 1)
    os.rename(photos / "wall.png", os.fsencode(photos) + b"/br\xfccke.png")
    (photos / "broken.jpg").unlink()
    os.rename(photos / "photo0.png", os.fsencode(photos) + b"/\xfc.png")
    (photos / "photo1.png").write_bytes(b"none")
    os.rename(photos / "photo1.png", os.fsencode(photos) + b"/b\xfc.png")
    out = tmp_path / "out"
    for resume in (False, True):
        assert run(tiny_cfg, photos, out, resume=resume) == 1
    names = [r"br\udcfccke.png", "photo2.png", r"\udcfc.png"]
    document = json.loads((out / "predictions.json").read_bytes().decode())
    assert sorted(x["file_name"] for x in document["images"]) == sorted(names)
    rows = list(csv.DictReader((out / "predictions.csv").open(encoding="utf-8")))
    assert {row["file_name"] for row in rows} == {*names, r"b\udcfc.png"}
    assert (out / r"br\udcfccke_mask.png").exists()
    assert run(tiny_cfg, photos, out, geojson=True) == 1
    assert (out / r"br\udcfccke_lines.geojson").exists()


def test_lines_labels_and_what_to_label_next(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").unlink()
    out = tmp_path / "out"
    options = OutputOptions(str(out), geojson=True, labels="coco")
    run_prediction(tiny_cfg, find_photos(str(photos)), options, by_uncertainty=True)
    images = json.loads((out / "predictions.json").read_text())["images"]
    unsure = [image["uncertainty"] for image in images]
    assert unsure == sorted(unsure, reverse=True)
    assert 0 < unsure[-1] < unsure[0] < 1
    lines = json.loads((out / "photo0_lines.geojson").read_text())
    labels = json.loads((out / "labels" / "coco.json").read_text())
    image = next(x for x in labels["images"] if x["file_name"] == "photo0.png")
    cracks = [x for x in labels["annotations"] if x["image_id"] == image["id"]]
    assert len(lines["features"]) == len(cracks) > 0
    assert [x["properties"]["area"] for x in lines["features"]] == [x["area"] for x in cracks]


def test_photos_are_never_overwritten(tiny_cfg: CfgNode, photos: Path) -> None:
    before = content(photos)
    with pytest.raises(CrackError, match="holds the photo"):
        run(tiny_cfg, photos, photos)
    assert content(photos) == before


@pytest.mark.parametrize("ray_address", [None, "local"])
def test_a_model_that_cannot_be_built_leaves_the_folder(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, ray_address: str | None
) -> None:
    out = tmp_path / "out"
    run(tiny_cfg, photos, out)
    before = content(out)
    other = tiny_cfg.clone()
    other.MODEL.MOBILENETV2.WIDTH_MULT = 0.5
    with pytest.raises(CrackError) as caught:
        run_prediction(other, find_photos(str(photos)), OutputOptions(str(out)), False, ray_address)
    assert "--resume" not in str(caught.value)
    assert content(out) == before


@pytest.mark.parametrize(
    "name",
    ["photo1_mask.png", "sub/photo3_lines.geojson", "predictions.csv", "predictions.json",
     ".records/notes.txt"],
)  # fmt: skip
def test_files_of_others_are_not_overwritten(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, name: str
) -> None:
    (photos / "sub").mkdir()
    write_photo(photos / "sub" / "photo3.png", 3)
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(CrackError, match=f"{name}, which no earlier run has written; name another"):
        run(tiny_cfg, photos, tmp_path / "out")
    assert content(tmp_path / "out") == {name: b"{}"}


def test_what_an_earlier_run_wrote_and_this_one_does_not_is_removed(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    for _ in range(2):
        run(tiny_cfg, photos, out, geojson=True)
    (out / "photo0_mask.png").write_bytes(b"drawn by hand")
    (photos / "photo0.png").write_bytes(b"unreadable")
    (photos / "photo2.png").unlink()  # not of the next run

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "_write_tables", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_cfg, photos, out)
    monkeypatch.undo()
    assert (out / "photo1_lines.geojson").exists()
    run(tiny_cfg, photos, out, resume=True)
    run(tiny_cfg, photos, fresh)
    ends = ("overlay.png", "mask.png", "prob.png", "lines.geojson")
    kept = {"photo0_mask.png", *(f"photo2_{end}" for end in ends)}
    assert content(out).keys() == content(fresh).keys() | kept


def test_what_was_written_of_a_photo_is_remembered_by_runs_without_it(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    run(tiny_cfg, photos, out, geojson=True)
    for _ in range(2):
        run(tiny_cfg, photos / "photo1.png", out)
        lines = {path.name for path in out.glob("*_lines.geojson")}
        assert lines == {"photo0_lines.geojson", "photo2_lines.geojson"}
    for folder in (out, fresh):
        run(tiny_cfg, photos, folder, threshold=0.95)
    assert content(out).keys() == content(fresh).keys()


def test_pictures_of_a_subfolder_labels_are_no_labels(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    (photos / "labels").mkdir()
    write_photo(photos / "labels" / "photo3.png", 3)
    for _ in range(2):
        run(tiny_cfg, photos, tmp_path / "out", labels="coco")
    files = content(tmp_path / "out" / "labels").keys()
    pictures = {f"photo3_{kind}.png" for kind in ("overlay", "mask", "prob")}
    assert files == {"coco.json", ".written"} | pictures


def test_an_output_that_cannot_be_written_is_one_sentence(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CrackError, match="file"):
        run(tiny_cfg, photos, tmp_path / "file" / "out")


def test_any_storage_gives_the_same_files(tiny_cfg: CfgNode, photos: Path, tmp_path: Path) -> None:
    local = tmp_path / "out"
    run(tiny_cfg, photos, local)
    memory = fsspec.filesystem("memory")
    for path in photos.iterdir():
        memory.pipe_file(f"/{tmp_path.name}/in/{path.name}", path.read_bytes())
    run(tiny_cfg, f"memory://{tmp_path.name}/in", f"memory://{tmp_path.name}/out")
    root = f"/{tmp_path.name}/out/"
    remote = {x.removeprefix(root): memory.cat_file(x) for x in memory.find(root)}
    expected = content(local)
    assert remote.keys() == expected.keys()
    for name in expected:
        # The photos' paths are in the summaries.
        moved = remote[name].replace(f"memory:///{tmp_path.name}/in".encode(), bytes(photos))
        assert moved == expected[name], name


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.jpg", "b.c.png", "sub/d.tif"], ["a", "b.c", "sub/d"]),
        (["a.jpg", "a.png"], ["a", "a_png"]),
        (["x/a.jpg", "y/a.jpg", "y/a.png"], ["x/a", "y/a", "y/a_png"]),
        (["a.jpg", "A.jpg"], ["a", "A_jpg"]),  # one file on some file systems
        (["a.jpg", "a.png", "a_png.jpg"], ["a", "a_png", "a_png_jpg"]),
        (["a.jpg"] * 4, ["a", "a_jpg", "a_jpg_2", "a_jpg_3"]),
        (["é" * 120 + ".jpg", "é" * 125 + ".jpg"], ["é" * 100, "é" * 100 + "_jpg"]),
        (["-settings.jpg"], ["-settings_jpg"]),  # whose record would replace the run's settings
    ],
)
def test_outputs_have_names_of_their_own(files: list[str], expected: list[str]) -> None:
    photos = [PhotoFile(f"/{i}/{name}", name) for i, name in enumerate(files)]
    assert [task.name for task in batch._name_outputs(photos, {})] == expected


@pytest.mark.parametrize("content", ["[]", "{}", '{"path": 1', "5", '{"path": "/in/a.jpg"}'])
def test_damaged_records_are_one_sentence(tiny_cfg: CfgNode, content: str, tmp_path: Path) -> None:
    (tmp_path / ".records").mkdir()
    (tmp_path / ".records" / "a.json").write_text(content)
    photos = [PhotoFile("/in/a.jpg", "a.jpg")]
    with pytest.raises(CrackError, match=r"records in .* are damaged; leave --resume out"):
        run_prediction(tiny_cfg, photos, OutputOptions(str(tmp_path)), resume=True)


def test_known_photos_keep_their_names() -> None:
    photos = [PhotoFile(f"/in/{name}", name) for name in ("a.bmp", "a.jpg")]
    tasks = list(batch._name_outputs(photos, {"/in/a.jpg": {"name": "a"}}))
    assert tasks == [(photos[0], "a_bmp"), (photos[1], "a")]
