"""One inference thread behind a bounded queue.

Detectron2 called from many threads leaks memory, and two predictions at once are no faster than
one after the other; so one thread owns the model, and requests wait in line for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from werkzeug.exceptions import GatewayTimeout, ServiceUnavailable

if TYPE_CHECKING:
    from crack_data.inference.prediction import CrackPrediction

Predictor = Callable[..., "CrackPrediction"]


class ClientGone(Exception):
    """The client closed its connection before its photo's turn came."""


@dataclass(frozen=True, eq=False)  # equal to itself alone, photos being costly to compare
class _Job:
    image: np.ndarray
    threshold: float | None
    gone: Callable[[], bool]
    deadline: float


class InferenceWorker:
    """Builds the predictor in its thread, then predicts one photo at a time."""

    def __init__(self, build: Callable[[], Predictor], queue_size: int, deadline_s: float) -> None:
        """Start the thread and the building of the predictor.

        Args:
            build: makes the predictor; runs in the inference thread.
            queue_size: photos that may wait while one is predicted.
            deadline_s: longest wait in line, s.
        """
        self._deadline_s = deadline_s
        self._slots = threading.BoundedSemaphore(queue_size + 1)
        self._capacity = queue_size + 1
        self._line: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._building: Future[Predictor] = self._thread.submit(self._build, build)

    @property
    def ready(self) -> bool:
        """Whether the predictor is built."""
        return self._building.done() and self.failure is None

    @property
    def failure(self) -> BaseException | None:
        """What stopped the building of the predictor, if anything did."""
        if not self._building.done() or self._building.cancelled():
            return None
        return self._building.exception()

    @property
    def waiting(self) -> int:
        """Photos in line for the inference thread, not counting the one it is at."""
        return len(self._line)

    def on_built(self, callback: Callable[[], None]) -> None:
        """Call back once the predictor is built or has failed to."""
        self._building.add_done_callback(lambda _: callback())

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the places in the house, from before a photo is decoded to its answer.

        Decoded photos are large: taking the place first bounds the memory as well as the line.

        Raises:
            ServiceUnavailable: every place is taken, or the predictor is not built.
        """
        if not self.ready:
            raise ServiceUnavailable("the model is not loaded yet", retry_after=2)
        if not self._slots.acquire(blocking=False):
            raise ServiceUnavailable(
                f"all {self._capacity} places in the queue are taken; try again", retry_after=1
            )
        try:
            yield
        finally:
            self._slots.release()

    def predict(
        self, image: np.ndarray, threshold: float | None, gone: Callable[[], bool]
    ) -> tuple[CrackPrediction, float]:
        """Predict a photo when its turn comes, and say how long it waited.

        Args:
            image: BGR uint8, shape (height, width, 3).
            threshold: see the predictor.
            gone: whether the client has left, asked when the turn comes.

        Returns:
            The prediction, and the wait in ms.

        Raises:
            GatewayTimeout: the turn did not come before the deadline; nothing was computed.
            ClientGone: the client left; nothing was computed.
            ServiceUnavailable: the server is stopping, and the photo is not predicted any more.
        """
        arrived = time.monotonic()
        job = _Job(image, threshold, gone, arrived + self._deadline_s)
        with self._lock:  # so that the line has the order of the thread's
            self._line.append(job)
            future = self._thread.submit(self._run, job)
        try:
            return future.result(timeout=self._deadline_s)
        except FutureTimeoutError:
            if future.cancel():
                with self._lock:
                    self._line.remove(job)
                raise self._too_late() from None
            return future.result()  # its turn has come: it is being computed
        except CancelledError:
            raise ServiceUnavailable("the server is stopping", retry_after=5) from None

    def close(self) -> None:
        """Finish the photo at hand and end the thread; photos in line are dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _build(self, build: Callable[[], Predictor]) -> Predictor:
        predictor = build()
        if hasattr(predictor, "upcoming"):
            predictor.upcoming = self._first_in_line
        return predictor

    def _first_in_line(self) -> np.ndarray | None:
        """The photo to be predicted next, as far as one can tell."""
        with self._lock:
            job = self._line[0] if self._line else None
        return None if job is None or job.gone() or self._late(job) else job.image

    def _run(self, job: _Job) -> tuple[CrackPrediction, float]:
        with self._lock:
            self._line.remove(job)
        waited_ms = (time.monotonic() - job.deadline + self._deadline_s) * 1000
        if job.gone():
            raise ClientGone
        if self._late(job):
            raise self._too_late()
        return self._building.result()(job.image, threshold=job.threshold), waited_ms

    @staticmethod
    def _late(job: _Job) -> bool:
        return time.monotonic() > job.deadline

    def _too_late(self) -> GatewayTimeout:
        return GatewayTimeout(
            f"the photo waited {self._deadline_s:g} s for the model and was not predicted"
        )
