"""Files that appear complete or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import CrackError

_SUFFIX = ".crack.tmp"
# Folders in which this process has looked for what killed processes left.
_swept: set[Path] = set()


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that takes its name only when the block ends well.

    The bytes go to a hidden file in the same folder (made where missing), which replaces ``path``
    in one step; where ``path`` is a link, what it points to. An exception, Ctrl-C or a kill leaves
    what ``path`` held before. Hidden files of processes that were killed are removed.

    Raises:
        CrackError: the folder cannot be made or written to, the disk is full, or ``path`` is a
            folder, pipe or device.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a device would be replaced by a file
        raise CrackError(f"cannot write {path}: it is a folder, pipe or device; name a file")
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        handle, temporary = _create(target.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.chmod(temporary, 0o666 & ~_umask())
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


def _create(folder: Path) -> tuple[int, str]:
    """Create a hidden file, locked for as long as it is open."""
    while True:
        handle, name = tempfile.mkstemp(prefix=".", suffix=_SUFFIX, dir=folder)
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process swept it away before it was locked


def _sweep(folder: Path) -> None:
    """Remove the hidden files that no living process has locked, once in a folder."""
    if folder in _swept:
        return
    _swept.add(folder)
    for path in folder.glob(f".*{_SUFFIX}"):
        with suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _umask() -> int:
    """The process's file mode mask; mkstemp ignores it and makes files private."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
