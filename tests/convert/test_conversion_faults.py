"""Conversion of bad, missing and suspicious pairs, with bad options, and broken off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crack_data.convert.cleaning import PRESETS
from crack_data.convert.conversion import convert, ordered_map
from crack_data.errors import CrackError

from .pairs import load, options_of, write_pair

VALUES = {"instances": "values"}

# Sends Ctrl-C to itself and all its workers, as a terminal does, a moment after the pool starts.
_INTERRUPTED = """
import os, signal, sys, threading, time
from crack_data.errors import run_tool
from crack_data.convert.conversion import ordered_map

def main():
    threading.Timer(float(sys.argv[1]), os.killpg, (0, signal.SIGINT)).start()
    for _ in ordered_map(time.sleep, [0.05] * 500, 2):
        pass

if __name__ == "__main__":
    run_tool(main)
"""


def _spoil(folder: Path) -> None:
    whole = (folder / "images" / "a.jpg").read_bytes()
    (folder / "images" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "masks" / "b_mask.png").write_text("no picture")
    (folder / "images" / "c.jpg").write_bytes(b"")


def test_bad_files_are_all_named_and_nothing_is_written(folder: Path) -> None:
    _spoil(folder)
    (folder / "crack.json").write_text("old")
    with pytest.raises(CrackError) as caught:
        convert(options_of(folder))
    message = str(caught.value)
    assert "3 files" in message
    for name in ("a.jpg", "b_mask.png", "c.jpg"):
        assert str(Path(name)) in message
    assert (folder / "crack.json").read_text() == "old"


def test_skip_bad_writes_the_rest_and_says_what_is_missing(folder: Path) -> None:
    _spoil(folder)
    result = convert(options_of(folder, skip_bad=True))
    data = load(result.outputs[""])
    assert [image["file_name"] for image in data["images"]] == ["d.jpg", "e.jpg", "nothing.jpg"]
    assert sorted(data["info"]["left_out"]) == ["a.jpg", "b.jpg", "c.jpg"]
    assert "is damaged, or no PNG" in data["info"]["left_out"]["b.jpg"]
    assert len(result.bad_files()) == 3


@pytest.mark.parametrize("name", ["images/a.jpg", "masks/a_mask.png"])
def test_links_to_nothing_are_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere")
    with pytest.raises(CrackError, match=f"{name} cannot be read: No such file"):
        convert(options_of(folder))


def test_nothing_usable_is_an_error_even_with_skip_bad(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 0)
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(CrackError, match="no usable pair"):
        convert(options_of(tmp_path, skip_bad=True))


def test_strict_names_files_without_partner(folder: Path) -> None:
    (folder / "masks" / "a_mask.png").unlink()
    (folder / "images" / "b.jpg").unlink()
    result = convert(options_of(folder))
    assert [Path(path).name for path in result.photos_without_mask] == ["a.jpg"]
    assert [Path(path).name for path in result.masks_without_photo] == ["b_mask.png"]
    with pytest.raises(CrackError, match=r"(?s)2 files have no partner.*a\.jpg.*b_mask\.png"):
        convert(options_of(folder, strict=True))


def test_duplicate_masks_are_flagged_and_left_out_on_request(folder: Path) -> None:
    mask = (folder / "masks" / "a_mask.png").read_bytes()
    (folder / "masks" / "c_mask.png").write_bytes(mask)
    result = convert(options_of(folder))
    flags = {Path(record.photo).stem: record.flags for record in result.records}
    assert flags["a"]["duplicate_mask"] == flags["c"]["duplicate_mask"] == 2
    assert "duplicate_mask" not in flags["b"]
    result = convert(options_of(folder, skip_flagged=("duplicate_mask",)))
    data = load(result.outputs[""])
    assert [image["file_name"] for image in data["images"]] == [
        "b.jpg", "d.jpg", "e.jpg", "nothing.jpg"
    ]  # fmt: skip
    assert data["info"]["left_out"]["a.jpg"] == "flagged duplicate_mask"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"skip_flagged": ("ugly",)}, "ugly"),
        ({"output": Path("crack.txt")}, "must end in .json"),
        ({"instances": "all"}, "instances"),
        ({"mask_format": "png"}, "mask_format"),
        ({"invert": "?"}, "invert"),
        ({"line_width": float("nan")}, "--line-width nan"),
        ({"line_width": 5.0}, "line_width means nothing with --masks"),
        ({"categories": ("crack",)}, "categories means nothing with --masks"),
        ({"workers": -2}, "--workers -2"),
        ({"seed": 3}, "seed means nothing with no --split"),
        ({"group_by": "a"}, "group_by means nothing with no --split"),
        (VALUES | {"cleaning": PRESETS["classic"]}, r"area, …\) means nothing with --instances"),
        (VALUES | {"invert": "yes"}, "invert means nothing with --instances values"),
        ({"crack_values": frozenset({7}), "invert": "no"}, "invert means nothing with --crack-val"),
        ({"crack_values": frozenset({7}), "ignore_values": frozenset({7})}, "value 7 is given"),
    ],
)
def test_options_that_do_not_exist(folder: Path, changes: dict, named: str) -> None:
    with pytest.raises(CrackError, match=named):
        options_of(folder, **changes)


def test_a_set_without_any_crack_is_said(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 0, cracks=0)
    assert any("no photo of the set has a crack" in n for n in convert(options_of(tmp_path)).notes)


def test_results_come_in_order() -> None:
    items = list(range(-100, 100))
    for workers in (1, 2):
        assert list(ordered_map(abs, items, workers)) == [abs(item) for item in items]


@pytest.mark.parametrize("seconds", [0.01, 0.6])
def test_ctrl_c_at_any_moment_is_one_word(seconds: float, tmp_path: Path, repo: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(_INTERRUPTED)
    ended = subprocess.run(
        [sys.executable, str(script), str(seconds)],
        cwd=repo,
        env={"PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 130
    assert ended.stderr == "interrupted\n"


def test_a_set_of_which_nothing_is_left_replaces_no_other(folder: Path) -> None:
    for mask in folder.glob("masks/*.png"):
        if mask.stem != "nothing_mask":
            mask.unlink()
    (folder / "crack.json").write_text("old")
    with pytest.raises(CrackError, match="no photo is left: --drop-empty"):
        convert(options_of(folder, drop_empty=True))
    assert (folder / "crack.json").read_text() == "old"
