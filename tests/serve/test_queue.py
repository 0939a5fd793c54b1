"""The line in front of the model: bounded, with deadlines, and one photo at a time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests

from .conftest import running_server
from .test_refusals import check_problem

if TYPE_CHECKING:
    from crack_data.inference.prediction import CrackPrediction
    from crack_data.inference.predictor import CrackPredictor


class Gate:
    """A real predictor that waits for leave before each photo, and counts them."""

    def __init__(self, predictor: CrackPredictor) -> None:
        self.predictor = predictor
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.threads: list[int] = []

    def __call__(self, image: np.ndarray, threshold: float | None = None) -> CrackPrediction:
        self.threads.append(threading.get_ident())
        self.entered.release()
        assert self.open.wait(30)
        return self.predictor(image, threshold)


@pytest.fixture
def gate(predictor: CrackPredictor) -> Iterator[Gate]:
    """A gate, opened at the end whatever happens."""
    gate = Gate(predictor)
    yield gate
    gate.open.set()


@pytest.fixture
def post_later(png: bytes) -> Iterator[Callable[[str], Future[requests.Response]]]:
    """Posts the photo from a thread of its own."""
    with ThreadPoolExecutor(16) as pool:

        def post(url: str) -> Future[requests.Response]:
            headers = {"Content-Type": "image/png"}
            return pool.submit(
                requests.post, url + "/predict", data=png, headers=headers, timeout=60
            )

        yield post


def wait_for_depth(url: str, depth: int) -> None:
    """Wait until the metrics show this many photos in line."""
    for _ in range(200):
        if f"crack_queue_depth {depth}.0" in requests.get(url + "/metrics", timeout=9).text:
            return
        time.sleep(0.02)
    raise AssertionError(f"the queue never was {depth} deep")


def test_a_full_queue_refuses_and_recovers(gate: Gate, post_later: Callable) -> None:
    with running_server(gate, queue_size=2) as url:
        accepted = [post_later(url) for _ in range(3)]
        wait_for_depth(url, 2)
        refused = post_later(url).result()
        check_problem(refused, 503, "queue")
        assert int(refused.headers["Retry-After"]) >= 1
        assert requests.get(url + "/healthz", timeout=9).ok
        gate.open.set()
        assert [future.result().status_code for future in accepted] == [200] * 3
        assert post_later(url).result().status_code == 200
    assert len(set(gate.threads)) == 1  # one inference thread
    assert len(gate.threads) == 4  # the refused photo was not computed


def test_past_its_deadline_a_photo_is_not_computed(gate: Gate, post_later: Callable) -> None:
    with running_server(gate, deadline_s=0.3) as url:
        running = post_later(url)
        assert gate.entered.acquire(timeout=9)
        started = time.monotonic()
        check_problem(post_later(url).result(), 504, "0.3 s")
        assert time.monotonic() - started < 20  # the gate would wait for 30
        wait_for_depth(url, 0)
        gate.open.set()
        # The one that was being computed is answered, however long it took.
        assert running.result().status_code == 200
        assert post_later(url).result().status_code == 200
    assert len(gate.threads) == 2


def test_a_photo_whose_client_left_is_not_computed(
    gate: Gate, post_later: Callable, png: bytes
) -> None:
    with running_server(gate) as url:
        running = post_later(url)
        assert gate.entered.acquire(timeout=9)
        host, port = url.removeprefix("http://").split(":")
        leaver = socket.create_connection((host, int(port)))
        head = f"POST /predict HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: {len(png)}"
        leaver.sendall(f"{head}\r\nHost: here\r\n\r\n".encode() + png)
        wait_for_depth(url, 1)
        leaver.close()
        time.sleep(0.2)  # the server's loop sees the closed connection
        gate.open.set()
        assert running.result().status_code == 200
        assert post_later(url).result().status_code == 200
        metrics = requests.get(url + "/metrics", timeout=9).text
    assert 'route="/predict",status="499"} 1.0' in metrics
    assert len(gate.threads) == 2


def test_a_failing_prediction_is_a_500_and_frees_its_place(
    predictor: CrackPredictor, post_later: Callable
) -> None:
    failures = iter([True, True, True, False])

    def moody(image: np.ndarray, threshold: float | None = None) -> CrackPrediction:
        if next(failures):
            raise RuntimeError("secret of the inside")
        return predictor(image, threshold)

    with running_server(moody, queue_size=1) as url:
        for _ in range(3):
            problem = check_problem(post_later(url).result(), 500)
            assert "secret" not in problem["detail"]
        assert post_later(url).result().status_code == 200


def test_stopping_answers_what_waits(gate: Gate, post_later: Callable) -> None:
    with running_server(gate) as url:
        futures = [post_later(url) for _ in range(3)]
        wait_for_depth(url, 2)
        threading.Timer(0.5, gate.open.set).start()
    # The context is left: the server has stopped, and nothing was lost.
    assert [future.result().status_code for future in futures] == [200] * 3
    with pytest.raises(requests.ConnectionError):
        requests.get(url + "/healthz", timeout=9)
