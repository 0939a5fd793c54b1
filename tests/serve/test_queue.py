"""The line in front of the model: bounded, with deadlines, and one photo at a time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import cv2
import numpy as np
import pytest
import requests
from werkzeug.exceptions import ServiceUnavailable

from serve import Settings, create_app, uploads
from serve.app import CLIENT_GONE

from ..inference.test_prediction import prediction_of
from .conftest import check_problem, running_server
from .stand_ins import predict_nothing

if TYPE_CHECKING:
    from crack_data.inference.prediction import CrackPrediction
    from serve.app import CrackApp
    from serve.worker import Predictor


RAW = {"Content-Type": "image/png"}


class Gate:
    """Waits for leave before each photo, finds nothing on it, and counts them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.threads: list[int] = []

    def __call__(
        self, image: np.ndarray, threshold: float | None, before_tile: Callable
    ) -> CrackPrediction:
        self.threads.append(threading.get_ident())
        self.entered.release()
        assert self.open.wait(30)
        return predict_nothing(image, threshold)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate, opened at the end whatever happens."""
    gate = Gate()
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


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true, for at most half a minute."""
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for_depth(url: str, depth: int) -> None:
    """Wait until the metrics show this many photos in line."""
    line = f"crack_queue_depth {depth}.0"
    wait_until(lambda: line in requests.get(url + "/metrics", timeout=9).text)


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
    assert 'route="/predict",status="499"}' in metrics
    assert len(gate.threads) == 2


def test_tiles_of_a_client_that_left_are_not_computed(
    model_flags: list[str], app_of: Callable
) -> None:
    from crack_data.config import load_predict_config
    from crack_data.inference.predictor import CrackPredictor

    keys = ["CRACK.INFERENCE.TILE_SIZE", "128", "CRACK.INFERENCE.TILE_OVERLAP", "32"]
    predictor = CrackPredictor(load_predict_config(model_flags[1], model_flags[3], keys))
    asked = []

    def gone() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 5  # before and after decoding, at its turn, before the first two tiles

    app = app_of(predictor)
    photo = cv2.imencode(".png", np.full((500, 700, 3), 128, np.uint8))[1].tobytes()
    client = app.test_client()
    answer = client.post("/predict", data=photo, headers=RAW, environ_base={CLIENT_GONE: gone})
    assert answer.status_code == 499
    assert len(asked) == 6
    assert client.post("/predict", data=photo, headers=RAW).status_code == 200


def test_cracks_of_a_client_that_left_are_not_measured(app_of: Callable) -> None:
    cracks = prediction_of(*(np.indices((80, 80))[0] // 8 == row for row in range(1, 9, 2)))
    asked = []

    def gone() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 5  # before and after decoding, at its turn, before the first two cracks

    client = app_of(lambda *_: cracks).test_client()
    photo = cv2.imencode(".png", np.zeros((80, 80, 3), np.uint8))[1].tobytes()
    path, left = "/predict?format=json", {CLIENT_GONE: gone}
    answer = client.post(path, data=photo, headers=RAW, environ_base=left)
    assert answer.status_code == 499
    assert len(asked) == 6
    assert len(client.post(path, data=photo, headers=RAW).json["instances"]) == 4


def test_the_time_of_decoding_counts(gate: Gate, png: bytes) -> None:
    """A photo that came in time but took long to decode is not computed."""
    gate.open.set()
    with running_server(gate, deadline_s=0.001) as url:
        large = cv2.imencode(".png", np.zeros((3000, 3000, 3), np.uint8))[1].tobytes()
        answer = requests.post(url + "/predict", data=large, headers=RAW, timeout=60)
        check_problem(answer, 504, "0.001 s")
    assert gate.threads == []


def test_the_wait_for_decoding_ends_at_the_deadline(gate: Gate, png: bytes) -> None:
    gate.open.set()
    with running_server(gate, deadline_s=0.2) as url, uploads._DECODING:
        answer = requests.post(url + "/predict", data=png, headers=RAW, timeout=10)
        check_problem(answer, 504, "0.2 s")
    assert gate.threads == []


def test_failing_predictions_are_500s_that_free_their_slots(post_later: Callable) -> None:
    """Photos that fail by themselves do not end the server: a blank one still works."""

    def moody(image: np.ndarray, threshold: float | None, before_tile: Callable) -> CrackPrediction:
        if image.any() and moods.pop():
            raise RuntimeError("secret of the inside")
        return predict_nothing(image, threshold)

    moods = [False, *[True] * 7]
    with running_server(moody, queue_size=1) as url:
        for _ in range(7):
            problem = check_problem(post_later(url).result(), 500)
            assert "secret" not in problem["detail"]
        assert requests.get(url + "/readyz", timeout=9).ok
        assert post_later(url).result().status_code == 200


@pytest.fixture
def app_of() -> Iterator[Callable]:
    """Gives an app of a predictor without a server, which would end as soon as its model fails."""
    apps = []

    def make(predictor: Predictor, **settings: Any) -> CrackApp:
        app = create_app(Settings(**settings), predictor)
        apps.append(app)
        client = app.test_client()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        return app

    yield make
    for app in apps:
        app.worker.close()


def test_a_model_that_always_fails_is_not_ready(app_of: Callable, png: bytes) -> None:
    def broken(image: np.ndarray, threshold: float | None, before_tile: Callable) -> NoReturn:
        raise RuntimeError("out of order")

    client = app_of(broken).test_client()
    for _ in range(3):
        assert client.post("/predict", data=png, headers=RAW).status_code == 500
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "3 photos" in ready.json["detail"]
    assert "out of order" in ready.json["detail"]
    assert "does not work" in client.post("/predict", data=png, headers=RAW).json["detail"]
    assert client.get("/healthz").status_code == 200


def test_a_model_that_hangs_is_not_ready(gate: Gate, app_of: Callable, png: bytes) -> None:
    client = app_of(gate, model_timeout_s=0.3).test_client()
    assert "does not work" in client.post("/predict", data=png, headers=RAW).json["detail"]
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "not answered for 0.3 s" in ready.json["detail"]


def test_the_thread_starts_with_the_first_request() -> None:
    """Not with the app: a server that forks after making it would lose the thread."""
    app = create_app(Settings(), predict_nothing)
    time.sleep(0.1)
    with pytest.raises(ServiceUnavailable, match="not loaded yet"):
        app.worker.check_ready()
    client = app.test_client()
    wait_until(lambda: client.get("/readyz").status_code == 200)
    app.worker.close()


def test_stopping_answers_what_waits(gate: Gate, post_later: Callable) -> None:
    with running_server(gate) as url:
        futures = [post_later(url) for _ in range(3)]
        wait_for_depth(url, 2)
        threading.Timer(0.5, gate.open.set).start()
    # The context is left: the server has stopped, and nothing was lost.
    assert [future.result().status_code for future in futures] == [200] * 3
    with pytest.raises(requests.ConnectionError):
        requests.get(url + "/healthz", timeout=9)
