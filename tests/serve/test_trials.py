"""The trials of a running server, short ones here; the full ones are marked slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests

from benchmarks.server.fuzz import FORMATS, bad_body, fuzz, valid_photo
from benchmarks.server.process import ServerProcess

from ..conftest import UNMEASURED
from .conftest import ONE_THREAD


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


def test_300_bad_bodies_do_no_harm_where_good_photos_pass() -> None:
    flags = ["--deadline-s", "600"]
    with ServerProcess(flags, ONE_THREAD, "tests.serve.stand_ins") as server:
        server.wait_ready()
        for format_name in FORMATS:
            for seed in range(4):
                files = {"image": valid_photo(format_name, seed)}
                assert requests.post(server.url + "/predict", files=files, timeout=60).ok
        result = fuzz(server, 300)
    assert result.failures == []
    assert result.statuses.total() == 300
    assert {400, 413, 415, 422} <= set(result.statuses)


def run_trial(name: str, *arguments: str) -> str:
    """Run a trial to its end; return what it printed."""
    command = [sys.executable, "-m", f"benchmarks.server.{name}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD | UNMEASURED)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_short_soak_equals_the_predict_tool(model_flags: list[str], photos: Path) -> None:
    flags = ["--count", "12", "--growth", "50", "--deadline-s", "600", *model_flags]
    assert "12 photos answered" in run_trial("soak", "--photos", str(photos), *flags)


@pytest.mark.slow
def test_the_full_trials(model_flags: list[str], photos: Path) -> None:
    config = Path(model_flags[1])
    compiled = photos.parent / "compiled.yaml"
    compiled.write_text(config.read_text().replace("FAST: 'off'", "FAST: auto"))
    assert compiled.read_text() != config.read_text()
    model_flags = [*model_flags, "--config-file", str(compiled)]
    printed = run_trial("fuzz", "--count", "10000", *model_flags)
    assert "failures: 0" in printed
    patient = ["--photos", str(photos), "--deadline-s", "600"]
    assert "2000 photos answered" in run_trial("soak", *patient, *model_flags)
    assert "closed" in run_trial("attack", *model_flags)
