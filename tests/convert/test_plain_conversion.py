"""The converter finds what a plain script, written apart from it by the same rules, finds."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks import plain_converter as plain
from crack_data.convert.cleaning import PRESETS, find_cracks
from tests.conftest import REPO, ToolRun
from tests.convert.greys import greys

Tool = Callable[..., ToolRun]


@given(grey=greys())
@settings(max_examples=100, deadline=None)
def test_both_find_the_same_instances_in_any_mask(grey: np.ndarray) -> None:
    mask = plain.without_specks(plain.without_halo(plain.binarize(grey)))
    expected = sorted(instance.tobytes() for instance in plain.instances_of(mask))
    labels = find_cracks(grey, PRESETS["thin"])
    assert np.array_equal(labels > 0, mask > 0)
    assert sorted((labels == i + 1).tobytes() for i in range(labels.max())) == expected


def test_both_give_the_same_annotations_and_flags(tmp_path: Path, run_tool: Tool) -> None:
    run_tool("make_synthetic.py", "--output", tmp_path, "--count", "12", "--noise")
    folders = ["--images", tmp_path / "images", "--masks", tmp_path / "masks"]
    _compare(tmp_path, run_tool, folders)


@pytest.mark.shared
def test_so_they_do_on_a_real_set(shared: Path, tmp_path: Path, run_tool: Tool) -> None:
    folder = shared / "data" / "cfd_train"
    _compare(tmp_path, run_tool, ["--images", folder / "images", "--masks", folder / "masks"])


def _compare(tmp_path: Path, run_tool: Tool, folders: list[str | Path]) -> None:
    command = [sys.executable, "-m", "benchmarks.plain_converter", *map(str, folders)]
    command += ["--output", str(tmp_path / "plain.json")]
    subprocess.run(command, check=True, capture_output=True, cwd=REPO)
    words = [*folders, "--output", tmp_path / "c.json", "--report", tmp_path]
    assert run_tool("convert_to_coco.py", *words).returncode == 0
    expected = json.loads((tmp_path / "plain.json").read_bytes())
    ours = json.loads((tmp_path / "c.json").read_bytes())
    assert len(_cracks(ours)) > 10
    assert _cracks(ours) == _cracks(expected)
    with (tmp_path / "flags.csv").open(newline="") as stream:
        rows = [(Path(row["photo"]).name, row["flag"]) for row in csv.DictReader(stream)]
    flags = [(image["file_name"], flag) for image in expected["images"] for flag in image["flags"]]
    assert sorted(row for row in rows if row[1] != "duplicate_mask") == sorted(flags)


def _cracks(content: dict[str, Any]) -> list[tuple[Any, ...]]:
    photo = {image["id"]: image["file_name"] for image in content["images"]}
    return sorted(
        (photo[each["image_id"]], each["bbox"], each["area"], each["segmentation"]["counts"])
        for each in content["annotations"]
    )
