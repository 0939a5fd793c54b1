"""A file appears complete or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from crack_data.errors import CrackError
from crack_data.files import atomic_write


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    with atomic_write(path) as stream:
        stream.write(b"all of it")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("a.json")
    with atomic_write(tmp_path / "link.json") as stream:
        stream.write(b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "a.json").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_block_leaves_the_old_file(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(error):
        _write_half(path, error)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def _write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_write(path) as stream:
        stream.write(b"half of")
        raise error


def test_a_folder_and_a_file_in_the_way_are_named(tmp_path: Path) -> None:
    with pytest.raises(CrackError, match="it is a folder"), atomic_write(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(CrackError, match="cannot write"), atomic_write(tmp_path / "file" / "a"):
        pass


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
