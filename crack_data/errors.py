"""The one exception that reaches a user as a sentence instead of a traceback."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG,
               errno.EPIPE, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)  # fmt: skip


class CrackError(ValueError):
    """Bad input. The message is one sentence: what was wrong, in which file or key, what to do."""


@contextmanager
def as_crack_error(what: str) -> Iterator[None]:
    """Turn whatever others' code raises of bad input into a `CrackError`: ``what``, and why."""
    try:
        yield
    except CrackError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise CrackError(f"{what}: {' '.join(reason.split())}") from error


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a command-line ``main`` and exit with its code.

    A `CrackError`, a disk that is full or cannot be written to, and a reader of the output that
    has left, become one line and 1. What the terminal cannot show is printed as escapes.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main()
        print(end="", flush=True)
    except CrackError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        if error.errno == errno.EPIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes there once more, at exit
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror}; what was complete is kept", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
