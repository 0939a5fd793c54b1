"""One inference thread behind a bounded queue.

Detectron2 called from many threads leaks memory, and two predictions at once are no faster than
one after the other; so one thread owns the model, and requests wait in line for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from werkzeug.exceptions import GatewayTimeout, ServiceUnavailable

from crack_data.errors import CrackError

from .settings import Settings

if TYPE_CHECKING:
    from crack_data.inference.prediction import CrackPrediction

Predictor = Callable[..., "CrackPrediction"]

_LOG = logging.getLogger(__name__)
# After so many failures in a row a blank photo tells whether the model or the photos are at fault.
_FAILURES = 3
# How often a waiting request looks whether the model has failed, s.
_LOOK_S = 0.5


class ClientGone(Exception):
    """The client closed its connection before its photo was predicted."""


class InferenceWorker:
    """Builds the predictor in its thread, then predicts one photo at a time."""

    def __init__(self, build: Callable[[], Predictor], settings: Settings) -> None:
        """Prepare the thread; `start` starts it.

        Args:
            build: makes the predictor; runs in the inference thread.
            settings: queue_size, deadline_s and model_timeout_s count here.
        """
        self._build = build
        self._settings = settings
        self._slots = threading.BoundedSemaphore(settings.queue_size + 1)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._starting = threading.Lock()
        self._building: Future[Predictor] | None = None
        self._futures: set[Future] = set()
        self._failed_in_a_row = 0
        self._since: float | None = None  # the prediction at hand began, by time.monotonic
        self._broken: CrackError | None = None

    def start(self) -> None:
        """Start the thread and the building of the predictor, unless that was done before.

        Not in the constructor: a server that forks after the app is made would lose the thread.
        """
        with self._starting:
            if self._building is None:
                self._building = self._thread.submit(self._load)

    @property
    def ready(self) -> bool:
        """Whether the predictor is built and works."""
        return self._building is not None and self._building.done() and self.failure is None

    @property
    def failure(self) -> BaseException | None:
        """Why no photo can be predicted any more; None while the model loads or works."""
        building = self._building
        if building is not None and building.done() and not building.cancelled():
            error = building.exception()
            if error is not None:
                return error
        since, limit = self._since, self._settings.model_timeout_s
        if since is not None and time.monotonic() - since > limit:
            self._broken = CrackError(f"the model has not answered for {limit:g} s")
        return self._broken

    @property
    def waiting(self) -> int:
        """Photos in line for the inference thread, not counting the one it is at."""
        return sum(not (future.running() or future.done()) for future in list(self._futures))

    @property
    def idle(self) -> bool:
        """Whether the thread is at nothing: neither loading the model nor predicting."""
        return self._building is None or (self._building.done() and self._since is None)

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Hold one of queue_size + 1 slots, from before a photo is decoded to its answer.

        Decoded photos are large: taking the slot first bounds the memory as well as the line.

        Yields:
            when the photo's time is up, by `time.monotonic`.

        Raises:
            ServiceUnavailable: every slot is taken, or there is no working predictor.
        """
        self._check_state()
        if not self._slots.acquire(blocking=False):
            slots = self._settings.queue_size + 1
            raise ServiceUnavailable(
                f"all {slots} slots of the queue are taken; try again", retry_after=1
            )
        try:
            yield time.monotonic() + self._settings.deadline_s
        finally:
            self._slots.release()

    def predict(
        self,
        image: np.ndarray,
        threshold: float | None,
        deadline: float,
        gone: Callable[[], bool],
    ) -> tuple[CrackPrediction, float]:
        """Predict a photo when its turn comes, and say how long it waited.

        Args:
            image: BGR uint8, shape (height, width, 3).
            threshold: see the predictor.
            deadline: what `slot` yielded.
            gone: whether the client has left, asked before the wait and when the turn comes.

        Returns:
            The prediction, and the wait in ms.

        Raises:
            GatewayTimeout: the turn did not come before the deadline; nothing was computed.
            ClientGone: the client left; nothing was computed.
            ServiceUnavailable: the server is stopping, or the model does not work any more.
        """
        arrived = time.monotonic()
        self._check_client(deadline, gone)
        future = self._thread.submit(self._run, image, threshold, deadline, gone, arrived)
        self._futures.add(future)
        try:
            return self._wait(future, deadline)
        except CancelledError:
            raise ServiceUnavailable("the server is stopping", retry_after=5) from None
        finally:
            self._futures.discard(future)

    def close(self) -> None:
        """Let the thread end after the photo at hand; photos in line are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _load(self) -> Predictor:
        try:
            return self._build()
        except CrackError:
            raise
        except Exception:
            _LOG.exception("the model could not be loaded")
            raise

    def _wait(self, future: Future, deadline: float) -> tuple[CrackPrediction, float]:
        while not future.done():
            self._check_state()
            left = deadline - time.monotonic()
            if left <= 0 and future.cancel():
                raise self._too_late()
            wait([future], timeout=min(left, _LOOK_S) if left > 0 else _LOOK_S)
        return future.result()

    def _run(
        self,
        image: np.ndarray,
        threshold: float | None,
        deadline: float,
        gone: Callable[[], bool],
        arrived: float,
    ) -> tuple[CrackPrediction, float]:
        self._check_client(deadline, gone)
        waited_ms = (time.monotonic() - arrived) * 1000
        try:
            prediction = self._timed(image, threshold)
        except Exception:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES:
                self._try_blank()
            raise
        self._failed_in_a_row = 0
        return prediction, waited_ms

    def _timed(self, image: np.ndarray, threshold: float | None) -> CrackPrediction:
        assert self._building is not None
        self._since = time.monotonic()
        try:
            return self._building.result()(image, threshold)
        finally:
            self._since = None

    def _try_blank(self) -> None:
        """Predict a photo that no client chose: else three bad photos could stop the server."""
        try:
            self._timed(blank_photo(), None)
            self._failed_in_a_row = 0
        except Exception as error:
            _LOG.exception("the model fails on a blank photo too")
            self._broken = CrackError(
                f"the model failed on {_FAILURES} photos in a row and on a blank one: "
                f"{type(error).__name__}: {error}"
            )

    def _check_state(self) -> None:
        if (failure := self.failure) is not None:
            _LOG.debug("refused: %s", failure)
            raise ServiceUnavailable("the model does not work; the server has to be started anew")
        if not self.ready:
            raise ServiceUnavailable("the model is not loaded yet", retry_after=2)

    def _check_client(self, deadline: float, gone: Callable[[], bool]) -> None:
        if gone():
            raise ClientGone
        if time.monotonic() > deadline:
            raise self._too_late()

    def _too_late(self) -> GatewayTimeout:
        return GatewayTimeout(
            f"the photo was not decoded and at the model within {self._settings.deadline_s:g} s "
            "and was not predicted"
        )


def blank_photo() -> np.ndarray:
    """A black photo, BGR uint8 (320, 480, 3)."""
    return np.zeros((320, 480, 3), np.uint8)
