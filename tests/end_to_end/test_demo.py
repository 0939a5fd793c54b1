"""`make demo`, which takes minutes; `make test` runs its commands in test_readme.py."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ..coco_files import thin_crack, two_photos
from ..conftest import ToolRun


def _check_page(folder: Path, printed: str) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) > 8
    assert not [name for name in pictures if not (folder / name).is_file()]
    assert "://" not in page
    for tool in ("convert_to_coco", "predict", "train_net", "calibrate", "benchmark"):
        assert f"$ python tools/{tool}.py" in printed
    assert "$ python -m serve" in printed
    assert "X-Crack-Percent-Masked" in printed


@pytest.mark.slow
def test_a_small_demo_on_drawn_photos(repo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ["--photos", "12", "--iterations", "2"]
    done = subprocess.run(
        [sys.executable, "tools/demo.py", *words, "--output", str(folder)],
        cwd=repo,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    _check_page(folder, done.stdout)


def test_a_folder_with_other_files_is_left_alone(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, "tools/demo.py", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=repo, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_photos_in_the_output_folder_and_earlier_results_are_kept(
    tmp_path: Path, run_tool: Callable[..., ToolRun]
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "01.txt").write_text("of an earlier demo")
    (tmp_path / "photos").mkdir()
    for given, told in [
        (tmp_path / "photos", "lies in the demo's output folder"),
        (tmp_path / "absent", "absent is no folder"),
    ]:
        words = ["--output", tmp_path, "--images", given, "--masks", tmp_path.parent]
        done = run_tool("demo.py", *words)
        assert done.returncode == 1
        assert told in done.stderr
    assert (tmp_path / "logs" / "01.txt").is_file()
    assert (tmp_path / "photos").is_dir()


def test_samples_of_the_same_name_are_kept_apart(repo: Path, tmp_path: Path) -> None:
    coco = two_photos(tmp_path, thin_crack())
    coco["images"] = [
        {**coco["images"][0], "id": number, "file_name": name}
        for number, name in enumerate(["bridge/0.png", "road/0.png", "a.jpg", "a.png"])
    ]
    for value, row in enumerate(coco["images"]):
        (tmp_path / row["file_name"]).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / row["file_name"]), np.full((20, 30, 3), 60 * value, np.uint8))
    (tmp_path / "crack_val.json").write_text(json.dumps(coco))
    truth = runpy.run_path(str(repo / "tools" / "demo.py"))["copy_samples"](tmp_path)
    samples = [cv2.imread(str(tmp_path / "samples" / name)) for name in truth]
    assert sorted(round(sample.mean()) for sample in samples) == [0, 60, 120, 180]
    assert len(list((tmp_path / "truth").iterdir())) == 4
    assert sorted(value > 0 for value in truth.values()) == [False, False, False, True]


@pytest.mark.parametrize("given", ["IMAGES=photos", "MASKS=masks"])
def test_photos_or_masks_alone_are_refused(
    repo: Path, given: str, run_tool: Callable[..., ToolRun]
) -> None:
    command = ["make", "-n", "--no-print-directory", "demo", given]
    printed = subprocess.run(command, cwd=repo, text=True, capture_output=True, check=True).stdout
    done = run_tool("demo.py", *shlex.split(printed.rpartition("tools/demo.py")[2]))
    assert done.returncode == 1
    assert "give both IMAGES=… and MASKS=…" in done.stderr


@pytest.mark.slow
def test_the_whole_demo(repo: Path) -> None:
    command = ["make", "demo", f"VENV={sys.prefix}"]
    done = subprocess.run(command, cwd=repo, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    _check_page(repo / "demo_out", done.stdout)
    assert "X-Crack-Percent-Low" in done.stdout  # the tuned model is calibrated
