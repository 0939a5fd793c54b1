"""What the tests of conversion share."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from .labelled import HEIGHT, WIDTH
from .pairs import write_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abcde"):
        write_pair(tmp_path, name, seed)
    write_pair(tmp_path, "nothing", 9, cracks=0)
    return tmp_path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two plain photos, one in a subfolder; labels lie beside the folder."""
    folder = tmp_path / "images"
    for name in ("a.jpg", "sub/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (120, 120, 120)).save(folder / name)
    return folder
