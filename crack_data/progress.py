"""A progress bar on a terminal, nothing in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def show_progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with the number done and the total."""
    with tqdm(unit=f" {unit}", leave=False, disable=None) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
