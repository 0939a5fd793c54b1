"""A file appears complete or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from crack_data.errors import CrackError, run_tool
from crack_data.storage import atomic_write

from .conftest import UNMEASURED


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
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CrackError, match="it is a folder, pipe"), atomic_write(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(CrackError, match="it is a folder"), atomic_write(tmp_path):
        pass
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a", Path("/proc/a")):
        with pytest.raises(CrackError, match="cannot write"), atomic_write(path):
            pass


_KILLED = """
import os, signal, sys
from crack_data.storage import atomic_write
with atomic_write(sys.argv[1]) as stream:
    stream.write(b"half of")
    stream.flush()
    if len(sys.argv) > 2:
        print("open", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _writer(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _KILLED, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | UNMEASURED,
    )


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    (tmp_path / ".notes.tmp").touch()  # not one of ours
    with _writer(str(tmp_path / "a.json")) as killed:
        killed.wait()
    assert len(_names(tmp_path)) == 2
    with _writer(str(tmp_path / "b.json"), "wait") as living:
        assert living.stdout is not None
        assert living.stdout.readline() == "open\n"
        with atomic_write(tmp_path / "c.json") as stream:
            stream.write(b"all of it")
        hidden = [name for name in _names(tmp_path) if name.endswith(".crack.tmp")]
        assert len(hidden) == 1  # the living one's; the killed one's is gone
        living.kill()
    assert _names(tmp_path) == sorted([*hidden, ".notes.tmp", "c.json"])


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CrackError, match=r"cannot write .*a\.json: File too large"):
            _write(path, 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["a.json"]


def _write(path: Path, size: int) -> None:
    with atomic_write(path) as stream:
        stream.write(bytes(size))


def test_what_the_block_cannot_read_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), atomic_write(tmp_path / "a.json"):
        (tmp_path / "absent").read_bytes()
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 1), (errno.EROFS, 1), (errno.ENOENT, 0)]
)
def test_tools_say_in_one_line_that_the_disk_is_full(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise OSError(number, os.strerror(number), "output/log.txt")

    with pytest.raises(SystemExit if code else OSError) as caught:
        run_tool(main)
    if code:
        assert caught.value.code == code
        assert capsys.readouterr().err.startswith(f"error: output/log.txt: {os.strerror(number)}")


def test_output_that_cannot_be_shown_or_has_no_reader() -> None:
    script = "from crack_data.errors import run_tool; run_tool(lambda: print('\\u88c2\\udce9'))"
    command = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (shown.returncode, shown.stdout) == (0, b"\\u88c2\\udce9\n")
    ends = os.pipe()
    os.close(ends[0])
    with os.fdopen(ends[1]) as pipe:
        left = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert left.returncode == 1
    assert left.stderr == b"error: Broken pipe; what was complete is kept\n"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
