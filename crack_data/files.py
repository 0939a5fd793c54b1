"""Files that appear complete or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO
from uuid import uuid4

from .errors import CrackError

_SUFFIX = ".crack.tmp"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that takes its name only when the block ends well.

    The bytes go to a hidden file in the same folder (made where missing), which replaces ``path``
    in one step; where ``path`` is a link, what it points to. An exception, Ctrl-C or a kill leaves
    what ``path`` held before. Hidden files of processes that were killed are removed. A
    `CrackError` where the place cannot be written to, or is a folder, pipe or device.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a device would be replaced by a file
        raise CrackError(f"cannot write {path}: it is a folder, pipe or device; name a file")
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with _create(target.parent) as stream:
            temporary = stream.name
            yield stream
            stream.flush()
            os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        # An error with a file name of its own is about what the block reads.
        if isinstance(error, OSError) and (not temporary or error.filename in (None, temporary)):
            reason = error.strerror or error
            raise CrackError(
                f"cannot write {path}: {reason}; make room there or name another place"
            ) from error
        raise


def _create(folder: Path) -> IO[bytes]:
    """Create a hidden file, locked for as long as it is open."""
    while True:
        path = folder / f".{uuid4().hex}{_SUFFIX}"
        stream = path.open("xb")
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream
        stream.close()  # another process swept it away before it was locked


@cache
def _sweep(folder: Path) -> None:
    """Remove the hidden files that no living process has locked, once in a folder."""
    for path in folder.glob(f".*{_SUFFIX}"):
        with suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
