"""One inference thread behind a bounded queue.

Detectron2 called from many threads leaks memory, and two predictions at once are no faster than
one after the other; so one thread owns the model, and requests wait in line for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import NamedTuple

import numpy as np
from werkzeug.exceptions import GatewayTimeout, ServiceUnavailable

from crack_data.errors import CrackError
from crack_data.inference.prediction import CrackPrediction

from .logs import QUEUE_DEPTH
from .settings import Settings

# Called with a BGR uint8 photo, a threshold or None, and a function to call before each tile.
Predictor = Callable[[np.ndarray, float | None, Callable[[], None]], CrackPrediction]

_LOG = logging.getLogger(__name__)
# After so many failures in a row a black photo, BGR, tells whether model or photos are at fault.
_FAILURES = 3
BLANK = np.zeros((320, 480, 3), np.uint8)


class ClientGone(Exception):
    """The client closed its connection before its photo was predicted."""


class Turn(NamedTuple):
    """One photo's place in line, which its deadline or its client may end."""

    deadline_s: float
    ends: float  # as `time.monotonic` counts
    gone: Callable[[], bool]

    def check(self, begun: bool = False) -> None:
        """Raise `ClientGone` if the client has left, `GatewayTimeout` if late and not ``begun``."""
        if self.gone():
            raise ClientGone
        if not begun and time.monotonic() >= self.ends:
            raise GatewayTimeout(
                f"the photo was not decoded and at the model within {self.deadline_s:g} s and was "
                "not predicted"
            )

    @contextmanager
    def hold(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock from when it is free; raise what `check` does."""
        while not lock.acquire(timeout=max(0.0, self.ends - time.monotonic())):
            self.check()
        try:
            self.check()
            yield
        finally:
            lock.release()


class InferenceWorker:
    """Builds the predictor in its thread, once `start` was called, then predicts photo by photo."""

    def __init__(self, build: Callable[[], Predictor], settings: Settings) -> None:
        self._build, self._settings = build, settings
        self._slots = threading.BoundedSemaphore(settings.queue_size + 1)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._started = threading.Lock()  # taken for good
        self._model = threading.Lock()  # held by the photo whose turn it is
        self._predictor: Predictor | None = None
        self._failed_in_a_row = 0
        # Why no photo can be predicted any more; None while the model loads or works.
        self.failure: Exception | None = None

    def start(self) -> None:
        """Start building the predictor, once; a server that forks before that keeps the thread."""
        if self._started.acquire(blocking=False):
            self._thread.submit(self._load)

    def _load(self) -> None:
        try:
            self._predictor = self._build()
            _LOG.info("ready: the model is loaded")
        except Exception as error:
            if not isinstance(error, CrackError):
                _LOG.exception("the model could not be loaded")
            self.failure = error

    def close(self) -> None:
        """Let the thread end after the photo at hand."""
        self._thread.shutdown(wait=False)

    def check_ready(self) -> None:
        """Raise `ServiceUnavailable`, which says why, unless the predictor is built and works."""
        if self.failure is not None:
            raise ServiceUnavailable(f"the model does not work: {self.failure}")
        if self._predictor is None:
            raise ServiceUnavailable("the model is not loaded yet", retry_after=1)

    @contextmanager
    def slot(self, gone: Callable[[], bool]) -> Iterator[Turn]:
        """Hold one of queue_size + 1 slots, which bound memory, too; or `ServiceUnavailable`."""
        self.check_ready()
        if not self._slots.acquire(blocking=False):
            raise ServiceUnavailable("the queue is full; try again", retry_after=1)
        try:
            limit = self._settings.deadline_s
            yield Turn(limit, time.monotonic() + limit, gone)
        finally:
            self._slots.release()

    def predict(
        self, image: np.ndarray, threshold: float | None, turn: Turn
    ) -> tuple[CrackPrediction, float]:
        """Predict a photo, BGR uint8 (H, W, 3), when its turn comes; also the ms that it waited.

        Raises what `Turn.check` does, `ClientGone` before each tile too, and `ServiceUnavailable`
        where the model does not work any more.
        """
        turn.check()
        arrived = time.monotonic()
        with ExitStack() as stack:
            with QUEUE_DEPTH.track_inprogress():
                stack.enter_context(turn.hold(self._model))
            waited_ms = (time.monotonic() - arrived) * 1000
            return self._run(image, threshold, partial(turn.check, True)), waited_ms

    def _run(
        self, image: np.ndarray, threshold: float | None, before_tile: Callable[[], None]
    ) -> CrackPrediction:
        """Predict in the thread, and find out whether the model hangs or fails on all it gets."""
        self.check_ready()
        assert self._predictor is not None
        limit = self._settings.model_timeout_s
        future = self._thread.submit(self._predictor, image, threshold, before_tile)
        try:
            prediction = future.result(limit)
        except ClientGone:
            raise
        except FutureTimeout:
            self.failure = CrackError(f"the model has not answered for {limit:g} s")
            self.check_ready()
            raise
        except Exception as error:
            self._failed_in_a_row += 1
            if image is BLANK:
                self.failure = CrackError(
                    f"the model failed on {_FAILURES} photos in a row and on a blank one: "
                    f"{type(error).__name__}: {error}"
                )
            elif self._failed_in_a_row >= _FAILURES:
                with suppress(Exception):
                    self._run(BLANK, None, lambda: None)
            raise
        self._failed_in_a_row = 0
        return prediction
