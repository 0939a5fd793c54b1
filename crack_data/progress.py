"""A progress bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def show_progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with the number done and the total; it reports on stderr."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(unit=f" {unit}", leave=False) as bar:

            def update(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield update
    else:
        yield _line_printer(unit)


def _line_printer(unit: str) -> Callable[[int, int], None]:
    start = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or (done == total and last > start):
            last = now
            print(f"{done}/{total} {unit}, {done / (now - start):.0f} per s", file=sys.stderr)

    return update
