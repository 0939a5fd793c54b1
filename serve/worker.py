"""One inference thread behind a bounded queue.

Detectron2 called from many threads leaks memory, and two predictions at once are no faster than
one after the other; so one thread owns the model, and requests wait in line for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from werkzeug.exceptions import GatewayTimeout, ServiceUnavailable

from crack_data.errors import CrackError

from .logs import QUEUE_DEPTH
from .settings import Settings

if TYPE_CHECKING:
    from crack_data.inference.prediction import CrackPrediction

# Called with a BGR uint8 photo, a threshold or None, and a function to call before each tile.
Predictor = Callable[[np.ndarray, float | None, Callable[[], None]], "CrackPrediction"]

_LOG = logging.getLogger(__name__)
# After so many failures in a row a blank photo tells whether the model or the photos are at fault.
_FAILURES = 3
_NOT_WORKING = "the model does not work; the server has to be started anew"


class ClientGone(Exception):
    """The client closed its connection before its photo was predicted."""


class Turn:
    """One photo's place in line: until when it may wait, and whether its client still does."""

    def __init__(self, deadline_s: float, gone: Callable[[], bool]) -> None:
        self._deadline_s, self._gone = deadline_s, gone
        self._ends = time.monotonic() + deadline_s
        self.came = threading.Event()

    def wait(self) -> bool:
        """Wait for the turn until the deadline; return whether it came."""
        return self.came.wait(max(0.0, self._ends - time.monotonic()))

    def check(self) -> None:
        """Raise `ClientGone` if the client has left, `GatewayTimeout` after the deadline."""
        self.check_client()
        if time.monotonic() >= self._ends:
            raise self.too_late()

    def check_client(self) -> None:
        """Raise `ClientGone` if the client has left."""
        if self._gone():
            raise ClientGone

    def too_late(self) -> GatewayTimeout:
        """What a photo gets whose turn did not come in time."""
        limit = f"{self._deadline_s:g} s"
        return GatewayTimeout(
            f"the photo was not decoded and at the model within {limit} and was not predicted"
        )


class InferenceWorker:
    """Builds the predictor in its thread, then predicts one photo at a time.

    Attributes:
        failure: why no photo can be predicted any more; None while the model loads or works.
    """

    def __init__(self, build: Callable[[], Predictor], settings: Settings) -> None:
        """Prepare the thread, in which ``build`` makes the predictor; `start` starts it."""
        self._build, self._settings = build, settings
        self._slots = threading.BoundedSemaphore(settings.queue_size + 1)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._starting = threading.Lock()
        self._started = False
        self._predictor: Predictor | None = None
        self._failed_in_a_row = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Start the thread and the building of the predictor, unless that was done before.

        Not in the constructor: a server that forks after the app is made would lose the thread.
        """
        with self._starting:
            if not self._started:
                self._started = True
                self._thread.submit(self._load)

    def close(self) -> None:
        """Let the thread end after the photo at hand; photos in line are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether the predictor is built and works."""
        return self._predictor is not None and self.failure is None

    @contextmanager
    def slot(self, gone: Callable[[], bool]) -> Iterator[Turn]:
        """Hold one of queue_size + 1 slots, from before a photo is decoded to its answer.

        Decoded photos are large: taking the slot first bounds the memory as well as the line.

        Raises:
            ServiceUnavailable: every slot is taken, or there is no working predictor.
        """
        if self.failure is not None:
            raise ServiceUnavailable(_NOT_WORKING)
        if not self.ready:
            raise ServiceUnavailable("the model is not loaded yet", retry_after=2)
        if not self._slots.acquire(blocking=False):
            slots = self._settings.queue_size + 1
            raise ServiceUnavailable(
                f"all {slots} slots of the queue are taken; try again", retry_after=1
            )
        try:
            yield Turn(self._settings.deadline_s, gone)
        finally:
            self._slots.release()

    def predict(
        self, image: np.ndarray, threshold: float | None, turn: Turn
    ) -> tuple[CrackPrediction, float]:
        """Predict a photo, BGR uint8 (H, W, 3), when its turn comes; also the ms that it waited.

        Raises:
            GatewayTimeout: the turn did not come before the deadline; nothing was computed.
            ClientGone: the client left; at most the tile at hand was computed.
            ServiceUnavailable: the model does not work any more.
        """
        turn.check()
        arrived, limit = time.monotonic(), self._settings.model_timeout_s
        future = self._thread.submit(self._run, image, threshold, turn)
        future.add_done_callback(lambda _: turn.came.set())  # where it is cancelled
        with QUEUE_DEPTH.track_inprogress():
            came = turn.wait()
        if not came and future.cancel():
            raise turn.too_late()
        waited_ms = (time.monotonic() - arrived) * 1000
        try:
            return future.result(limit), waited_ms
        except FutureTimeout:
            self._fail(f"the model has not answered for {limit:g} s")
            raise ServiceUnavailable(_NOT_WORKING) from None
        except CancelledError:
            raise ServiceUnavailable(_NOT_WORKING) from None

    def _load(self) -> None:
        try:
            self._predictor = self._build()
            _LOG.info("ready: the model is loaded")
        except Exception as error:
            if not isinstance(error, CrackError):
                _LOG.exception("the model could not be loaded")
            self.failure = error

    def _run(self, image: np.ndarray, threshold: float | None, turn: Turn) -> CrackPrediction:
        assert self._predictor is not None
        turn.came.set()
        turn.check()
        try:
            prediction = self._predictor(image, threshold, turn.check_client)
        except ClientGone:
            raise
        except Exception:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES:
                self._try_blank(self._predictor)
            raise
        self._failed_in_a_row = 0
        return prediction

    def _try_blank(self, predictor: Predictor) -> None:
        """Predict a photo that no client chose: else three bad photos could stop the server."""
        try:
            predictor(blank_photo(), None, lambda: None)
            self._failed_in_a_row = 0
        except Exception as error:
            _LOG.exception("the model fails on a blank photo too")
            self._fail(
                f"the model failed on {_FAILURES} photos in a row and on a blank one: "
                f"{type(error).__name__}: {error}"
            )

    def _fail(self, why: str) -> None:
        self.failure = CrackError(why)
        self.close()


def blank_photo() -> np.ndarray:
    """A black photo, BGR uint8 (320, 480, 3)."""
    return np.zeros((320, 480, 3), np.uint8)
