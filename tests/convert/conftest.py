"""What the tests of conversion share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .pairs import write_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abcde"):
        write_pair(tmp_path, name, seed)
    write_pair(tmp_path, "nothing", 9, cracks=0)
    return tmp_path
