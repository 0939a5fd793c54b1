"""benchmarks/bench_evaluation.py, which measures what a test should not: seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def bench(repo: Path, masks: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(repo / "benchmarks" / "bench_evaluation.py")]
    command += ["--masks", str(masks), "--count", "20"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.shared
def test_real_masks_are_counted(repo: Path, shared: Path) -> None:
    done = bench(repo, shared / "data" / "deepcrack_train" / "masks")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20 photos: ")
    found = re.search(r"F1 (0\.\d+), with 2 px (0\.\d+)", done.stdout)
    assert found is not None, done.stdout
    assert 0.5 < float(found[1]) < float(found[2]) < 1


def test_a_folder_without_masks_is_one_sentence(repo: Path, tmp_path: Path) -> None:
    done = bench(repo, tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path} holds no masks; give a folder of PNG files\n"
