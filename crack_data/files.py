"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import CrackError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that takes its name only when the block ends well.

    The bytes go to a hidden file in the same folder (made where missing), which replaces ``path``
    in one step; where ``path`` is a link, what it points to. An exception, Ctrl-C or a kill leaves
    what ``path`` held before.

    Raises:
        CrackError: the folder cannot be made or written to, ``path`` is a folder, or the disk is
            full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise CrackError(f"cannot write {path}: it is a folder; name a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
        )
    except OSError as error:
        raise CrackError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise CrackError(f"cannot write {path}: {error.strerror}") from error
        raise


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what `atomic_write` left below a folder when it was killed."""
    for path in Path(folder).rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def _umask() -> int:
    """The process's file mode mask; mkstemp ignores it and makes files private."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
