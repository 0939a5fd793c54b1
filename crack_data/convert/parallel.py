"""A process pool whose results come in order and whose memory stays bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
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


def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, preload: str
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order.

    Args:
        function: picklable; it should return errors rather than raise them.
        workers: processes, 1 for none but this one.
        preload: module that workers import once, before they are forked.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = _context(preload)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        chunks = (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
        waiting: deque[Future[list[Result]]] = deque()
        try:
            for chunk in chunks:
                with _ctrl_c_waits():  # it may start a worker, which must not be left half-known
                    waiting.append(pool.submit(_run_chunk, function, chunk))
                if len(waiting) > 3 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            raise CrackError(
                "a worker process ended early: for want of memory (use fewer workers), or because "
                'the calling script lacks `if __name__ == "__main__":`'
            ) from error
        finally:
            # Waits: a worker that is just starting must not lose what it shares with this process.
            pool.shutdown(cancel_futures=True)


def choose_workers(requested: int, items: int) -> int:
    """As many as requested, or for 0 as many as cores and items make worthwhile."""
    return requested or max(1, min(usable_cores(), items // ITEMS_PER_WORKER))


def _run_chunk(function: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [function(item) for item in chunk]


def _context(preload: str) -> multiprocessing.context.BaseContext:
    """Workers forked from a small server process where the platform can, else fresh ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    _start_fork_server()
    return context


def _start_fork_server() -> None:
    """Start the server from which workers are forked, deaf to Ctrl-C from its first moment.

    A terminal sends Ctrl-C to every process of a command, and the server would answer it with a
    traceback while it still imports. It inherits the blocked signal.
    """
    # First: starting the tracker unblocks the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hold a Ctrl-C back, and take it afterwards.

    By a handler, since a blocked signal would go to another thread (numpy and OpenCV have some)
    and raise here all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            signal.raise_signal(signal.SIGINT)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes themselves fill the cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the pool
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, also when that is killed and cannot say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
