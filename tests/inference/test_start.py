"""Importing the predictor's parts leaves the garbage collector as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("before", ["enable", "disable"])
def test_the_collector_is_as_before(before: str) -> None:
    code = (
        f"import gc; gc.{before}(); state = gc.isenabled(); import crack_data.inference.defaults; "
        "assert gc.isenabled() == state; assert gc.get_freeze_count() > 100_000"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize("earlier", ["crack_data", "torchvision"])
def test_starts_and_ends_without_a_word_from_libraries(earlier: str) -> None:
    code = f"import crack_data, {earlier}, crack_data.inference.defaults"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
