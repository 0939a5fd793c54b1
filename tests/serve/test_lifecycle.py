"""Starting, being ready, and stopping, of the real process."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import requests

from benchmarks.server.process import ServerProcess
from crack_data.errors import CrackError

from ..conftest import UNMEASURED
from .conftest import ONE_THREAD, check_problem

RAW = {"Content-Type": "image/png"}
NO_PHOTO = cv2.imencode(".png", np.full((40, 60, 3), 128, np.uint8))[1].tobytes()


def stand_in(illness: str, *flags: str) -> ServerProcess:
    """The server around a model of `stand_ins`."""
    return ServerProcess(flags, ONE_THREAD | {"ILLNESS": illness}, "tests.serve.stand_ins")


def post_all(pool: ThreadPoolExecutor, server: ServerProcess, count: int) -> list[Future]:
    """Post photos, one a thread."""
    return [
        pool.submit(requests.post, server.url + "/predict", data=NO_PHOTO, headers=RAW, timeout=99)
        for _ in range(count)
    ]


def test_alive_at_once_ready_once_loaded_and_nothing_on_disk(model_flags: list[str]) -> None:
    flags = [*model_flags, "--deadline-s", "100"]
    with ServerProcess(flags, ONE_THREAD | UNMEASURED) as server:
        assert requests.get(server.url + "/healthz", timeout=9).json() == {"status": "alive"}
        early = requests.get(server.url + "/readyz", timeout=9)
        check_problem(early, 503, "not loaded yet")
        assert early.headers["Retry-After"]
        photo = requests.post(server.url + "/predict", data=NO_PHOTO, headers=RAW, timeout=9)
        check_problem(photo, 503, "not loaded yet")
        server.wait_ready()
        assert requests.get(server.url + "/readyz", timeout=9).json() == {"status": "ready"}
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, 0))  # no file may grow
        # Too large for every buffer that would spill into a temporary file.
        noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), np.uint8)
        large = cv2.imencode(".png", noise)[1].tobytes()
        assert len(large) > 1_500_000
        for form in ({"files": {"image": large}}, {"data": large, "headers": RAW}):
            response = requests.post(server.url + "/predict?threshold=1", timeout=120, **form)
            assert response.status_code == 200, response.text
        assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_finish_what_is_running(number: int) -> None:
    with stand_in("slow") as server, ThreadPoolExecutor() as pool:
        server.wait_ready()
        futures = post_all(pool, server, 3)
        time.sleep(0.7)
        os.kill(server.pid, number)
        assert [future.result().status_code for future in futures] == [200, 200, 200]
        assert server.wait() == 0
    assert server.log[-1]["message"] == "stopped"


def test_a_second_signal_ends_it_at_once() -> None:
    with stand_in("hangs") as server, ThreadPoolExecutor() as pool:
        server.wait_ready()
        post_all(pool, server, 1)
        time.sleep(0.7)
        server.terminate()
        time.sleep(0.3)
        os.kill(server.pid, signal.SIGINT)
        assert server.wait(9) == -signal.SIGINT


def test_the_grace_ends_a_prediction() -> None:
    with stand_in("hangs", "--shutdown-grace-s", "1") as server, ThreadPoolExecutor() as pool:
        server.wait_ready()
        futures = post_all(pool, server, 2)
        time.sleep(0.7)
        server.terminate()
        began = time.monotonic()
        assert server.wait() == 0
        assert time.monotonic() - began < 10
        assert all(isinstance(x.exception(), requests.ConnectionError) for x in futures)


@pytest.mark.parametrize(
    ("illness", "flags", "words"),
    [
        ("hangs", ["--model-timeout-s", "0.5"], "not answered for 0.5 s"),
        ("fails", [], "failed on 3 photos in a row and on a blank one: RuntimeError"),
    ],
)
def test_a_broken_model_ends_the_process(illness: str, flags: list[str], words: str) -> None:
    with stand_in(illness, *flags) as server, ThreadPoolExecutor() as pool:
        server.wait_ready()
        futures = post_all(pool, server, 3)
        assert server.wait() == 1
        assert {future.result().status_code for future in futures} <= {500, 503}
    assert server.other_lines[-1].startswith("error: the model")
    assert words in server.other_lines[-1]


def test_sigint_stops_it_before_it_is_ready(model_flags: list[str]) -> None:
    # Not measured: Python 3.11 with a trace function repeats a function's first instruction while
    # a signal waits for the main thread, which may wait in turn for the import at hand.
    with ServerProcess(model_flags, ONE_THREAD | UNMEASURED) as server:
        os.kill(server.pid, signal.SIGINT)
        assert server.wait() == 0


def test_a_missing_model_is_one_sentence(model_flags: list[str]) -> None:
    with ServerProcess(
        [*model_flags, "--weights", "nowhere/model.pth"], ONE_THREAD | UNMEASURED
    ) as server:
        assert server.wait(180) == 1
    last = server.other_lines[-1]
    assert last.startswith("error: ")
    assert "nowhere/model.pth does not exist" in last


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CrackError, match=rf"--port {port}: .*Address already in use"):
            stand_in("", "--port", str(port))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")
def test_an_ipv6_address_has_its_brackets_in_the_log() -> None:
    with stand_in("", "--host", "::1") as server:
        messages = [line["message"] for line in server.log]  # its threads start in any order
        assert any(text.startswith("listening on http://[::1]:") for text in messages)
        server.terminate()
        assert server.wait() == 0
