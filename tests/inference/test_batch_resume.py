"""A prediction run that goes on where one has ended."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode

from crack_data.calibration import Calibration, Interval, calibration_path
from crack_data.errors import CrackError
from crack_data.inference import batch
from crack_data.inference.batch import run_settings
from crack_data.inference.outputs import OutputOptions
from crack_data.storage import fingerprint

from .conftest import write_photo
from .runs import content, run


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


def test_resume_goes_on_past_a_photo_that_cannot_be_read_now(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    before = run(tiny_cfg, photos, tmp_path / "out")
    (photos / "photo0.png").unlink()
    (photos / "photo0.png").symlink_to(tmp_path / "gone.png")
    assert run(tiny_cfg, photos, tmp_path / "out", resume=True) == before + 1


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
    allowed = ("photo0", "predictions", ".records/photo0", ".records/-settings")
    assert all(name.startswith(allowed) for name in changed)


def test_a_full_disk_is_one_sentence_and_what_was_complete_stays(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype=np.uint8)
    cv2.imwrite(str(photos / "photo1.png"), large)
    out = tmp_path / "out"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (25_000, limit[1]))
    try:
        with pytest.raises(CrackError, match=r"cannot write .*photo1_overlay\.png.*--resume"):
            run(tiny_cfg, photos, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (out / "photo0_mask.png").exists()
    run(tiny_cfg, photos, out, resume=True)
    assert not [name for name in content(out) if name.endswith(".tmp")]
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 3
