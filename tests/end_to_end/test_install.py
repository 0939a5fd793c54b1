"""`make install`, where the tests run in an environment that it made."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import REPO
from ..markdown import commands

MADE = (Path(sys.prefix) / ".crack_installed").is_file()
needs_made = pytest.mark.skipif(not MADE, reason="this environment is not one of make install's")
# In the README but run by no test: conda is not there, and a test does not run its own suite.
UNTESTED = (
    "make test",
    "source .venv/bin/activate",
    "conda env create -f environment.yml",
    "conda activate crack",
)


def _make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=REPO, text=True, capture_output=True, check=False)


@needs_made
def test_a_second_run_installs_nothing_and_says_what_is_there() -> None:
    done = _make("install-dev", f"VENV={sys.prefix}")
    assert done.returncode == 0, done.stderr
    assert "Successfully installed" not in done.stdout
    assert "Detectron2" in done.stdout
    assert "torch" in done.stdout


@needs_made
def test_a_wrong_detectron2_is_refused(tmp_path: Path) -> None:
    done = _make("install", f"VENV={sys.prefix}", f"DETECTRON2={tmp_path}")
    assert done.returncode != 0
    assert f"not {tmp_path}" in done.stderr


def test_a_missing_python_is_refused(tmp_path: Path) -> None:
    done = _make("install", f"VENV={tmp_path / 'venv'}", "PYTHON=python3.0")
    assert done.returncode != 0
    assert "there is no python3.0" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_help_lists_every_target() -> None:
    listed = _make("help").stdout
    makefile = (REPO / "Makefile").read_text("utf-8")
    targets = re.search(r"^\.PHONY: help (.*)$", makefile, re.MULTILINE)
    assert targets
    for target in targets[1].split():
        assert f"make {target} " in listed


def test_clean_leaves_what_was_trained(tmp_path: Path) -> None:
    for folder in ("output/mine", "demo_out", "build"):
        (tmp_path / folder).mkdir(parents=True)
    command = ["make", "-f", str(REPO / "Makefile"), "clean"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
    assert (tmp_path / "output" / "mine").is_dir()


def test_the_readme_has_no_other_commands_about_installing() -> None:
    lines = {line for line in commands(REPO / "README.md") if line.startswith("make ")}
    assert lines - set(UNTESTED) == {
        "make demo",
        "make install",
        "make install VENV=.venv PYTHON=python3.12 DETECTRON2=pip",
        "make install VENV=$CONDA_PREFIX",
    }
