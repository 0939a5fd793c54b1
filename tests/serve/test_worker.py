"""What the inference thread tells its predictor of the line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

from serve.worker import InferenceWorker, Predictor


class Patient:
    """Stands in for a predictor: says which photo is upcoming once it may go on."""

    def __init__(self) -> None:
        self.upcoming: Callable[[], np.ndarray | None] = lambda: None
        self.started = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, image: np.ndarray, threshold: float | None) -> Any:
        self.started.release()
        assert self.go_on.acquire(timeout=30)
        return self.upcoming()


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def pool(patient: Patient) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool
        for _ in range(9):
            patient.go_on.release()


def _worker(patient: Patient, deadline_s: float = 30) -> InferenceWorker:
    return InferenceWorker(lambda: cast(Predictor, patient), 4, deadline_s)


def _wait_for_line(worker: InferenceWorker, length: int) -> None:
    until = time.monotonic() + 30
    while worker.waiting != length:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_predictor_knows_the_photo_of_its_next_call(
    patient: Patient, pool: ThreadPoolExecutor
) -> None:
    worker = _worker(patient)
    photos = [np.full((4, 4, 3), i, np.uint8) for i in range(3)]
    answers = []
    for number, photo in enumerate(photos):
        answers.append(pool.submit(worker.predict, photo, None, lambda: False))
        _wait_for_line(worker, number)
        if not number:
            assert patient.started.acquire(timeout=30)
    for _ in photos:
        patient.go_on.release()
    assert [answer.result()[0] for answer in answers][:2] == photos[1:]
    assert answers[2].result()[0] is None
    worker.close()


@pytest.mark.parametrize("why", ["gone", "late"])
def test_a_photo_that_will_not_be_predicted_is_not_upcoming(
    why: str, patient: Patient, pool: ThreadPoolExecutor
) -> None:
    worker = _worker(patient, 0.2 if why == "late" else 30)
    photo = np.zeros((4, 4, 3), np.uint8)
    first = pool.submit(worker.predict, photo, None, lambda: False)
    assert patient.started.acquire(timeout=30)
    pool.submit(worker.predict, photo, None, lambda: why == "gone")
    if why == "gone":
        _wait_for_line(worker, 1)
    else:
        time.sleep(0.5)
        _wait_for_line(worker, 0)
    patient.go_on.release()
    assert first.result()[0] is None
    worker.close()
