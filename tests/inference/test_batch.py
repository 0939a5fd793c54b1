from __future__ import annotations

import csv
import json
import os
import resource
import shutil
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
from detectron2.config import CfgNode
from pycocotools.coco import COCO

from crack_data.calibration import Calibration, Interval, calibration_path
from crack_data.errors import CrackError
from crack_data.inference import batch
from crack_data.inference.batch import run_prediction, run_settings
from crack_data.inference.outputs import OutputOptions
from crack_data.inference.predictor import CrackPredictor
from crack_data.photos import read_photo
from crack_data.storage import PhotoFile, find_photos, fingerprint

from .conftest import write_photo


def run(cfg: CfgNode, photos: str | Path, folder: str | Path, **more: object) -> int:
    resume = bool(more.pop("resume", False))
    options = OutputOptions(str(folder), **more)  # type: ignore[arg-type]
    found = find_photos(str(photos), output=str(folder))
    return run_prediction(cfg, found, options, resume)


def content(folder: Path) -> dict[str, bytes]:
    files = [x for x in sorted(folder.rglob("*")) if x.is_file()]
    return {str(x.relative_to(folder)): x.read_bytes() for x in files}


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


def test_resume_skips_what_is_complete(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(tiny_cfg, photos, out)
    before = content(out)
    times = {name: (out / name).stat().st_mtime_ns for name in before if name.endswith("png")}
    (out / "photo1_mask.png").unlink()
    write_photo(photos / "photo0.jpg", 9)  # sorts before photo0.png, whose name it must not take
    capsys.readouterr()
    assert run(tiny_cfg, photos, out, resume=True) == 1
    assert "2 were complete" in capsys.readouterr().out
    after = content(out)
    for name in before:
        if name.endswith("png"):
            assert after[name] == before[name]
    for name in ("photo0_mask.png", "photo2_overlay.png"):
        assert (out / name).stat().st_mtime_ns == times[name]
    assert "photo0_jpg_mask.png" in after


def test_a_run_broken_off_in_the_middle_goes_on(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(tiny_cfg, photos, whole)
    plain = batch.predict_photo
    done: list[str] = []

    def interrupted(*given: object) -> dict[str, object]:
        if len(done) == 2:
            raise KeyboardInterrupt
        record = plain(*given)  # type: ignore[arg-type]
        done.append(record["file_name"])
        return record

    monkeypatch.setattr(batch, "predict_photo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_cfg, photos, out)
    assert not (out / "predictions.json").exists()
    monkeypatch.undo()
    run(tiny_cfg, photos, out, resume=True)
    assert content(out) == content(whole)


def test_resume_refuses_results_of_other_settings(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_cfg, photos, out)
    with pytest.raises(CrackError, match="another threshold"):
        run(tiny_cfg, photos, out, threshold=0.7, resume=True)
    other = tiny_cfg.clone()
    other.CRACK.INFERENCE.TILE_SIZE = 512
    with pytest.raises(CrackError, match="another config"):
        run(other, photos, out, resume=True)
    run(tiny_cfg, photos, out, threshold=0.7)


def test_resume_refuses_results_of_another_calibration(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    cfg, out = tiny_cfg.clone(), tmp_path / "out"
    cfg.MODEL.WEIGHTS = str(shutil.copy(cfg.MODEL.WEIGHTS, tmp_path))
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = -1.0
    run(cfg, photos, out)
    digest = fingerprint(cfg.MODEL.WEIGHTS)["sha256"]
    found = Calibration(digest, 0.1, 0.4, 0.0, 0.1, 50, 90, 90, Interval(0.9, -1.0, 1.0))
    calibration_path(cfg.MODEL.WEIGHTS).write_bytes(found.to_json())
    with pytest.raises(CrackError, match="another calibration"):
        run(cfg, photos, out, resume=True)
    for resume in (False, True):
        run(cfg, photos, out, resume=resume)
    for image in json.loads((out / "predictions.json").read_text())["images"]:
        assert image["threshold"] == 0.4
        assert (
            image["percent_masked_low"] <= image["percent_masked"] <= image["percent_masked_high"]
        )


def test_the_same_weights_elsewhere_are_the_same_settings(
    tiny_cfg: CfgNode, tmp_path: Path
) -> None:
    moved = tiny_cfg.clone()
    moved.MODEL.WEIGHTS = str(shutil.copy(tiny_cfg.MODEL.WEIGHTS, tmp_path / "moved.pth"))
    options = OutputOptions("out")
    assert run_settings(moved, options) == run_settings(tiny_cfg, options)


def test_resume_predicts_anew_what_changed(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photo replaced under its name, an emptied mask, one cut off; one photo is as it was."""
    write_photo(photos / "photo3.png", 3)
    out = tmp_path / "out"
    run(tiny_cfg, photos, out)
    whole = content(out)
    write_photo(photos / "photo0.png", 8)
    (out / "photo1_mask.png").write_bytes(b"")
    (out / "photo2_prob.png").write_bytes(whole["photo2_prob.png"][:-20])
    capsys.readouterr()
    run(tiny_cfg, photos, out, resume=True)
    assert ", 1 were complete" in capsys.readouterr().out
    after = content(out)
    changed = {name for name in whole if after[name] != whole[name]}
    assert changed >= {"predictions.json", "predictions.csv", "photo0_overlay.png"}
    allowed = ("photo0", "predictions", ".records/photo0")
    assert all(name.startswith(allowed) for name in changed)


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


def test_a_full_disk_is_one_sentence_and_what_was_complete_stays(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "photo1.png").write_bytes((photos / "photo1.png").read_bytes())
    large = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    cv2.imwrite(str(photos / "photo1.png"), large)
    out = tmp_path / "out"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(CrackError, match=r"cannot write .*photo1_overlay\.png.*--resume"):
            run(tiny_cfg, photos, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (out / "photo0_mask.png").exists()
    run(tiny_cfg, photos, out, resume=True)
    assert not [name for name in content(out) if name.endswith(".tmp")]
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 3


def test_lines_labels_and_what_to_label_next(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").unlink()
    out = tmp_path / "out"
    options = OutputOptions(str(out), lines=True, labels="coco")
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
        (["-settings.jpg"], ["-settings_jpg"]),  # whose record would replace the run's settings
    ],
)
def test_outputs_have_names_of_their_own(files: list[str], expected: list[str]) -> None:
    photos = [PhotoFile(f"/{i}/{name}", name) for i, name in enumerate(files)]
    assert [task.name for task in batch._name_outputs(photos, {})] == expected


@pytest.mark.parametrize("content", ["[]", "{}", '{"path": 1', "5", '{"path": "/in/a.jpg"}'])
def test_a_damaged_record_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / ".records").mkdir()
    (tmp_path / ".records" / "a.json").write_text(content)
    with pytest.raises(CrackError, match=r"a\.json is damaged; leave --resume out"):
        batch._read_complete([PhotoFile("/in/a.jpg", "a.jpg")], str(tmp_path), {})


def test_known_photos_keep_their_names() -> None:
    photos = [PhotoFile(f"/in/{name}", name) for name in ("a.bmp", "a.jpg")]
    (task,) = batch._name_outputs(photos, {"/in/a.jpg": "a"})
    assert task == (photos[0], "a_bmp")
