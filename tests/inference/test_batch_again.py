"""Prediction runs into the folder of an earlier one, with other photos than that had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from crack_data.errors import CrackError
from crack_data.inference.batch import run_prediction
from crack_data.inference.outputs import OutputOptions
from crack_data.storage import find_photos

from .conftest import write_photo
from .runs import content, run

KINDS = ("mask.png", "overlay.png", "prob.png")


@pytest.fixture
def north(tmp_path: Path) -> Path:
    """A folder with one photo, IMG_1.png, beside another such folder, "south"."""
    for seed, folder in enumerate(("north", "south")):
        (tmp_path / folder).mkdir()
        write_photo(tmp_path / folder / "IMG_1.png", seed)
    return tmp_path / "north"


def pictures(folder: Path) -> set[str]:
    return {name for name in content(folder) if name.endswith(".png")}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("between", [False, True])
def test_results_of_another_photo_are_not_overwritten(
    tiny_cfg: CfgNode, photos: Path, north: Path, tmp_path: Path, resume: bool, between: bool
) -> None:
    """Of a photo of the run before, and of one before that."""
    out, south = tmp_path / "out", tmp_path / "south"
    run(tiny_cfg, north, out)
    if between:
        run(tiny_cfg, photos, out)
    before = content(out)
    both = f"{south}/IMG_1.png would overwrite IMG_1_*, results of {north}/IMG_1.png, in"
    with pytest.raises(CrackError, match=re.escape(both)) as caught:
        run(tiny_cfg, south, out, resume=resume)
    assert "name another folder, predict both photos in one run" in str(caught.value)
    assert content(out) == before


def test_photos_that_were_moved_are_predicted_once_their_results_are_removed(
    tiny_cfg: CfgNode, north: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_cfg, north, out)
    north.rename(tmp_path / "moved")
    with pytest.raises(CrackError, match=r"or remove those results where that photo was moved"):
        run(tiny_cfg, tmp_path / "moved", out, resume=True)
    for path in out.glob("IMG_1_*"):
        path.unlink()
    run(tiny_cfg, tmp_path / "moved", out, resume=True)
    assert pictures(out) == {f"IMG_1_{kind}" for kind in KINDS}


@pytest.mark.parametrize("resume", [False, True])
def test_a_photo_keeps_the_names_of_its_files(
    tiny_cfg: CfgNode, north: Path, tmp_path: Path, resume: bool
) -> None:
    """Where another of its name joins it, and where that is gone."""
    out = tmp_path / "out"
    write_photo(north / "IMG_1.jpg", 2)
    run(tiny_cfg, north, out)
    (north / "IMG_1.jpg").unlink()
    found = find_photos(str(north), str(tmp_path / "south"))
    run_prediction(tiny_cfg, found, OutputOptions(str(out)), resume)
    images = json.loads((out / "predictions.json").read_text())["images"]
    assert [x["name"] for x in images] == ["IMG_1_png", "south/IMG_1"]
    names = ("IMG_1", "IMG_1_png", "south/IMG_1")
    assert pictures(out) == {f"{name}_{kind}" for name in names for kind in KINDS}


@pytest.mark.parametrize("resume", [False, True])
def test_photos_of_earlier_runs_that_the_tables_leave_out_are_counted(
    tiny_cfg: CfgNode,
    photos: Path,
    tmp_path: Path,
    resume: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    run(tiny_cfg, photos, out)
    assert "tables" not in capsys.readouterr().out
    run(tiny_cfg, photos / "photo1.png", out, resume=resume)
    assert re.search(r"; 2 photos of earlier runs are not in the tables$", capsys.readouterr().out)
