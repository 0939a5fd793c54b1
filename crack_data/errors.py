"""The one exception that reaches a user as a sentence instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable


class CrackError(ValueError):
    """Bad input. The message is one sentence: what was wrong, in which file or key, what to do."""


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a command-line ``main`` and exit with its code; a `CrackError` becomes one line and 1."""
    try:
        code = main()
    except CrackError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
