"""benchmarks/bench_evaluation.py, which measures what a test should not: seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest

from tests.conftest import ToolRun

TOOL = "../benchmarks/bench_evaluation.py"


@pytest.fixture(autouse=True)
def _threads_of_opencv_kept() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.shared
def test_real_masks_are_counted(shared: Path, run_tool: Callable[..., ToolRun]) -> None:
    masks = shared / "data" / "deepcrack_train" / "masks"
    done = run_tool(TOOL, "--masks", masks, "--count", "20")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20 photos: ")
    found = re.search(r"F1 (0\.\d+), with 2 px (0\.\d+)", done.stdout)
    assert found is not None, done.stdout
    assert 0.5 < float(found[1]) < float(found[2]) < 1


def test_a_folder_without_masks_is_one_sentence(
    tmp_path: Path, run_tool: Callable[..., ToolRun]
) -> None:
    done = run_tool(TOOL, "--masks", tmp_path, "--count", "20")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path} holds no masks; give a folder of PNG files\n"
