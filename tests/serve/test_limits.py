"""Clients that hold connections: closed in time, and nobody else waits for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import requests

from benchmarks.server.attack import ATTACKS, attack
from serve.server import CONNECTIONS_PER_ADDRESS

from .conftest import check_problem, running_server
from .stand_ins import predict_nothing

RAW = {"Content-Type": "image/png"}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_end_in_time_and_nobody_waits(name: str) -> None:
    with running_server(predict_nothing, client_timeout_s=3, deadline_s=60) as url:
        result = attack(url, name, lasting_s=60)
    assert len(result.closed_s) == result.connections
    assert result.healthz_s < 2  # a second on a machine at rest; who waits, waits for three


@contextmanager
def connections(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Open connections, closed at the end."""
    address = (urlsplit(url).hostname, urlsplit(url).port)
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(address, 9)) for _ in range(count)]


def test_the_oldest_idle_connection_of_an_address_makes_room(png: bytes) -> None:
    head = f"POST /predict HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: {len(png)}\r\n"
    with running_server(predict_nothing) as url, connections(url, 1) as busy:
        busy[0].sendall(head.encode() + b"Host: here\r\n\r\n" + png[:9])
        time.sleep(0.5)
        with connections(url, CONNECTIONS_PER_ADDRESS) as idle:
            assert requests.post(url + "/predict", data=png, headers=RAW, timeout=9).ok
            # Those that sent nothing go first, by age.
            assert idle[0].recv(1) == b""
            busy[0].sendall(png[9:])
            assert busy[0].recv(12) == b"HTTP/1.1 200"


def test_bodies_and_answers_are_bounded_together() -> None:
    """Two of the largest bodies for each slot; the rest is refused until one is gone."""
    size = 20_000
    head = f"POST /predict HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n"
    small = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    with running_server(predict_nothing, max_bytes=size, queue_size=1) as url:
        with connections(url, 5) as holding:
            for connection in holding:
                connection.sendall(head.encode() + b"Host: here\r\n\r\n" + bytes(size - 1))
            time.sleep(0.5)
            refused = requests.post(url + "/predict", data=small, headers=RAW, timeout=9)
            check_problem(refused, 503, "memory")
            assert requests.get(url + "/healthz", timeout=9).ok
        time.sleep(0.5)
        assert requests.post(url + "/predict", data=small, headers=RAW, timeout=9).ok
