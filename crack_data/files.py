"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import CrackError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that takes its name only when the block ends well.

    The bytes go to a hidden file in the same folder (made where missing), which replaces ``path``
    in one step; where ``path`` is a link, what it points to. An exception, Ctrl-C or a kill leaves
    what ``path`` held before.

    Raises:
        CrackError: the folder cannot be made or written to, or ``path`` is a folder.
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
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    """The process's file mode mask; mkstemp ignores it and makes files private."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
