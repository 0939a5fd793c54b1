"""The trials of a running server, short ones here; the full ones are marked slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests

from benchmarks.server.bad_bodies import FORMATS, bad_body, valid_photo
from benchmarks.server.fuzz import fuzz
from benchmarks.server.load import put_under_load
from benchmarks.server.server_process import ServerProcess

from .conftest import ONE_THREAD


@pytest.fixture(scope="module")
def patient_server(model_flags: list[str]) -> ServerProcess:
    """A server that lets photos wait, however busy the machine is."""
    with ServerProcess([*model_flags, "--deadline-s", "600"], ONE_THREAD) as server:
        server.wait_ready()
        yield server


@pytest.fixture
def photos(photo: np.ndarray, tmp_path: Path) -> Path:
    """A folder of three JPEGs, small ones: they are posted by the hundred."""
    folder = tmp_path / "photos"
    folder.mkdir()
    part = photo[16:64, :64]
    for index, image in enumerate((part, part[::-1], part[:, ::-1])):
        cv2.imwrite(str(folder / f"{index}.jpg"), image)
    return folder


def test_bodies_are_reproducible_and_of_every_kind() -> None:
    bodies = [bad_body(number) for number in range(200)]
    assert bodies[150] == bad_body(150)
    kinds = " ".join(body.kind for body in bodies)
    for format_name in FORMATS:
        assert f"truncated {format_name}" in kinds
        assert f"bit flips in {format_name}" in kinds
    for kind in ("huge", "bomb in pixels", "bomb in text", "wrong type", "broken form"):
        assert kind in kinds


@pytest.mark.parametrize("format_name", FORMATS)
def test_what_is_damaged_was_a_good_photo(patient_server: ServerProcess, format_name: str) -> None:
    for seed in range(4):
        response = requests.post(
            patient_server.url + "/predict?threshold=1",
            files={"image": valid_photo(format_name, seed)},
            timeout=600,
        )
        assert response.status_code == 200


def test_300_bad_bodies_do_no_harm(patient_server: ServerProcess) -> None:
    result = fuzz(patient_server, 300)
    assert result.failures == []
    assert result.statuses.total() == 300
    assert {400, 413, 415, 422} <= set(result.statuses)


def test_load_figures_count_every_answer(patient_server: ServerProcess, photos: Path) -> None:
    def answered() -> float:
        text = requests.get(patient_server.url + "/metrics", timeout=60).text
        line = next(x for x in text.splitlines() if x.startswith("crack_photo_megapixels_count"))
        return float(line.split()[1])

    before = answered()
    figures = put_under_load(patient_server, photos, "?format=json", seconds=2)
    assert figures.failures == 0
    assert figures.answers == answered() - before > 0
    assert 0 < figures.median_ms <= figures.p99_ms


def run_tool(*arguments: str) -> str:
    """Run a tool to its end; return what it printed."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_short_soak_equals_the_predict_tool(
    repo: Path, model_flags: list[str], photos: Path
) -> None:
    tool = str(repo / "benchmarks" / "soak_server.py")
    flags = ["--count", "210", "--growth", "20", "--deadline-s", "600", *model_flags]
    assert "210 photos answered as tools/predict.py does" in run_tool(
        tool, "--photos", str(photos), *flags
    )


@pytest.mark.slow
def test_10_000_bad_bodies(repo: Path, model_flags: list[str]) -> None:
    script = str(repo / "benchmarks" / "fuzz_server.py")
    printed = run_tool(script, "--count", "10000", *model_flags)
    assert "failures: 0" in printed


@pytest.mark.slow
def test_2_000_photos(repo: Path, model_flags: list[str], photos: Path) -> None:
    tool = str(repo / "benchmarks" / "soak_server.py")
    printed = run_tool(tool, "--photos", str(photos), "--deadline-s", "600", *model_flags)
    assert "2000 photos answered" in printed
