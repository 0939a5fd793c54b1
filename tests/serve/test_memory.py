"""What the server gives back to the system, seen in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import re

import cv2
import numpy as np

from serve.memory import give_back, spare_memory


def code_in_memory():
    total, is_code = 0, False
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-", line):
            is_code = " r-xp " in line and "/" in line
        elif is_code and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


spare_memory()
photo = np.arange(30000, dtype=np.uint8).reshape(100, 100, 3)
before = cv2.imencode(".png", photo)[1].tobytes()
loaded = code_in_memory()
give_back()
print(loaded, code_in_memory(), cv2.imencode(".png", photo)[1].tobytes() == before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_code_that_only_loading_read_leaves_memory_and_still_runs(repo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=repo, capture_output=True, text=True, check=True
    )
    loaded, left, same = done.stdout.split()
    assert int(left) < int(loaded) / 2
    assert same == "True"
