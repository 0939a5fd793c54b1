"""A process pool whose results come in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

import cv2

from ..errors import CrackError

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16
# Fewer items than this per worker are done sooner than a worker is started.
ITEMS_PER_WORKER = 48


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_workers(requested: int, items: int) -> int:
    """As many as requested, or for 0 as many as cores and items make worthwhile."""
    return requested or max(1, min(usable_cores(), items // ITEMS_PER_WORKER))


class WorkerPool:
    """Processes that work on items; a context manager.

    Args:
        workers: their number, 1 for none but this process.
    """

    def __init__(self, workers: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, _start_worker)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def ordered_map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Result]:
        """Yield ``function(item)`` for every item, in order.

        Args:
            function: picklable; it should return errors rather than raise them.

        Raises:
            CrackError: a worker ended early.
        """
        if not self._pool:
            yield from map(function, items)
            return
        try:
            with _workers_deaf_to_ctrl_c():
                results = self._pool.map(function, items, chunksize=CHUNK)
            yield from results
        except BrokenProcessPool as error:
            raise CrackError(
                "a worker process ended early: for want of memory (use fewer workers), or because "
                'the calling script lacks `if __name__ == "__main__":`'
            ) from error


@contextmanager
def _workers_deaf_to_ctrl_c() -> Iterator[None]:
    """Start workers that never see Ctrl-C, which a terminal sends to all processes of a command.

    They inherit that it is blocked. This process, which ends them, takes notice afterwards.
    """
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or not hasattr(signal, "pthread_sigmask"):
        yield  # only the main thread may choose, and only where there are such signals
        return
    resource_tracker.ensure_running()  # first: its start unblocks the signal
    caught: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes themselves fill the cores
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, also when that is killed and cannot say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
