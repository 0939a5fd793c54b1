"""``python -m benchmarks.server.attack``: clients that hold connections, against one of its own.

Prints, for each attack, how long /healthz takes meanwhile, and when the connections were closed.
Exits with 1 if /healthz took a second or more, or if a connection outlives the time for clients.
"""

from __future__ import annotations

import argparse
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import cv2
import numpy as np
import requests

from crack_data.errors import run_tool

from .process import ServerProcess

_HEAD = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\n"


def _noise() -> bytes:
    """A request with a photo that comes back as megabytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), np.uint8)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    return _HEAD + f"Content-Length: {len(data)}\r\n\r\n".encode() + data


# Attacks: what each connection sends at first, how many there are, and whether it goes on to send
# a byte a second. None reads.
ATTACKS: dict[str, tuple[Callable[[], bytes], int, bool]] = {
    "idle": (bytes, 200, False),
    "slow headers": (lambda: _HEAD + b"X-Slow: ", 64, True),
    "slow bodies": (lambda: _HEAD + b"Content-Length: 1000000\r\n\r\n", 64, True),
    "answers not read": (_noise, 9, False),
}


@dataclass(frozen=True)
class AttackResult:
    """What an attack did: /healthz's longest time while it lasted, and the connections' ages, s.

    ``closed_s`` has the age of each connection that the server closed.
    """

    name: str
    healthz_s: float
    connections: int
    closed_s: list[float]

    def line(self) -> str:
        """The figures as text."""
        ages = f"after {min(self.closed_s):.0f} to {max(self.closed_s):.0f} s"
        return (
            f"{self.name}: /healthz within {self.healthz_s:.2f} s; {len(self.closed_s)} of "
            f"{self.connections} connections closed {ages if self.closed_s else ''}"
        )


def attack(url: str, name: str, lasting_s: float) -> AttackResult:
    """Run one of `ATTACKS` on the server with this URL, for at most that long."""
    first, count, slow = ATTACKS[name]
    closed: dict[socket.socket, float] = {}
    slowest = 0.0
    request = first()  # a large photo, whose time must not count as the connections'
    with _connections(url, count) as sockets:
        started = time.monotonic()
        for connection in sockets:
            with suppress(ConnectionError):  # closed already, as `_send` finds
                connection.sendall(request)
            connection.setblocking(False)
        while time.monotonic() - started < lasting_s and len(closed) < count:
            asked = time.monotonic()
            requests.get(url + "/healthz", timeout=lasting_s).raise_for_status()
            slowest = max(slowest, time.monotonic() - asked)
            for connection in sockets:
                if connection not in closed:
                    _send(connection, b"x" if slow else b"", closed, started)
            time.sleep(1)
    return AttackResult(name, slowest, count, sorted(closed.values()))


def _send(
    connection: socket.socket, data: bytes, closed: dict[socket.socket, float], started: float
) -> None:
    """Send a byte; note the connection if the server has closed it."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    try:
        if data:
            connection.send(data)
        gone = bool(poll.poll(0))
    except BlockingIOError:
        return
    except OSError:
        gone = True
    if gone:
        closed[connection] = time.monotonic() - started


@contextmanager
def _connections(url: str, count: int) -> Iterator[list[socket.socket]]:
    address = urlsplit(url)
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            connection = socket.socket()
            # Little is buffered on this side, so that answers stay with the server.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((address.hostname, address.port))
            sockets.append(stack.enter_context(connection))
        yield sockets


def main() -> int:
    """Run all attacks; flags that are not listed go to the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client-timeout-s", type=float, default=30, help="the server's")
    arguments, flags = parser.parse_known_args()
    limit = arguments.client_timeout_s
    good = True
    with ServerProcess(["--client-timeout-s", str(limit), *flags]) as server:
        server.wait_ready()
        for name in ATTACKS:
            result = attack(server.url, name, limit + 60)
            print(result.line())
            good &= result.healthz_s < 1 and len(result.closed_s) == result.connections
    return 0 if good else 1


if __name__ == "__main__":
    run_tool(main)
