"""Starting, being ready, and stopping, of the real process."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import requests

from benchmarks.server.server_process import ServerProcess
from crack_data.errors import CrackError

from ..conftest import UNMEASURED
from .conftest import ONE_THREAD
from .test_refusals import check_problem

RAW = {"Content-Type": "image/png"}


def test_alive_at_once_and_ready_once_loaded(model_flags: list[str], png: bytes) -> None:
    with ServerProcess(model_flags, ONE_THREAD) as server:
        assert requests.get(server.url + "/healthz", timeout=9).json() == {"status": "alive"}
        early = requests.get(server.url + "/readyz", timeout=9)
        check_problem(early, 503, "not loaded yet")
        assert early.headers["Retry-After"]
        photo = requests.post(server.url + "/predict", data=png, headers=RAW, timeout=9)
        check_problem(photo, 503, "not loaded yet")
        server.wait_ready()
        assert requests.get(server.url + "/readyz", timeout=9).json() == {"status": "ready"}
        assert requests.post(server.url + "/predict", data=png, headers=RAW, timeout=60).ok


def test_sigterm_finishes_what_is_running(model_flags: list[str]) -> None:
    large = cv2.imencode(".jpg", np.full((700, 700, 3), 128, np.uint8))[1].tobytes()
    flags = [*model_flags, "--shutdown-grace-s", "100", "--deadline-s", "100"]
    with ServerProcess(flags, ONE_THREAD) as server, ThreadPoolExecutor() as pool:
        server.wait_ready()
        futures = [
            pool.submit(
                requests.post,
                server.url + "/predict?threshold=1",
                data=large,
                headers={"Content-Type": "image/jpeg"},
                timeout=120,
            )
            for _ in range(3)
        ]
        time.sleep(0.3)
        server.terminate()
        assert [future.result().status_code for future in futures] == [200, 200, 200]
        assert server.wait() == 0
    assert server.log[-1]["message"] == "stopped"


def test_sigint_stops_it_before_it_is_ready(model_flags: list[str]) -> None:
    with ServerProcess(model_flags, ONE_THREAD) as server:
        os.kill(server.pid, signal.SIGINT)
        assert server.wait() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--weights", "nowhere/model.pth"], "nowhere/model.pth does not exist"),
        (["--config-file", "nowhere.yaml"], "nowhere.yaml does not exist"),
    ],
)
def test_a_missing_model_is_one_sentence(
    model_flags: list[str], flags: list[str], words: str
) -> None:
    with ServerProcess([*model_flags, *flags], ONE_THREAD) as server:
        assert server.wait() == 1
    last = server.other_lines[-1]
    assert last.startswith("error: ")
    assert words in last


def test_a_taken_port_is_one_sentence(model_flags: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CrackError, match=rf"port {port}: Address already in use"):
            ServerProcess([*model_flags, "--port", str(port)])


def test_nothing_is_written_to_disk(model_flags: list[str]) -> None:
    # Too large for every buffer that would spill into a temporary file.
    noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), np.uint8)
    large = cv2.imencode(".png", noise)[1].tobytes()
    assert len(large) > 1_500_000
    with ServerProcess(model_flags, ONE_THREAD | UNMEASURED) as server:
        server.wait_ready()
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, 0))  # no file may grow
        for form in ({"files": {"image": large}}, {"data": large, "headers": RAW}):
            response = requests.post(server.url + "/predict?threshold=1", timeout=120, **form)
            assert response.status_code == 200, response.text
        assert server.stop() == 0
