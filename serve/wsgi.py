"""Waitress, with problem documents for its own refusals, all in memory, and a drained stop."""

from __future__ import annotations

import json
import logging
import signal
import socket
import time
from types import FrameType
from typing import Any

from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask

from crack_data.errors import CrackError

from .problems import PROBLEM_TYPE, body_too_large, problem_document
from .settings import Settings

_LOG = logging.getLogger(__name__)

# An oversized body is read to its end, and dropped, up to this many times the limit.
_READ_ON = 8


class BoundedParser(HTTPRequestParser):
    """Reads an oversized body to its end before it is refused, keeping nothing of it.

    Refusing at once resets the connection of a client that is still sending, and most clients
    then report the reset instead of the 413.
    """

    expect_continue: bool
    _to_drop = 0

    def received(self, data: bytes) -> int:
        """Take bytes from the connection; return how many were used."""
        if self._to_drop:
            used = min(len(data), self._to_drop)
            self._to_drop -= used
            self.completed = not self._to_drop
            return used
        used = super().received(data)
        if self.error is not None:
            self._read_on()
        return used

    def _read_on(self) -> None:
        limit = self.adj.max_request_body_size
        small_enough = limit <= self.content_length < _READ_ON * limit
        if small_enough and not self.expect_continue and not self.body_bytes_received:
            self.completed = False
            self._to_drop = self.content_length
        self.expect_continue = False


class ProblemTask(ErrorTask):
    """Answers a request that never reached the app: malformed, or too large."""

    def execute(self) -> None:
        """Write the problem document and close the connection."""
        error = self.request.error
        self.status = f"{error.code} {error.reason}"
        _LOG.info("refused before the app: %s, %s", self.status, error.body)
        detail = f"the request is refused: {error.body}"
        if error.code == 413:
            detail = body_too_large(self.channel.adj.max_request_body_size - 1)
        body = json.dumps(problem_document(error.code, detail))
        self.response_headers += [
            ("Content-Type", PROBLEM_TYPE),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body.encode())


class Channel(HTTPChannel):
    """A connection that uses the two classes above."""

    parser_class = BoundedParser
    error_task_class = ProblemTask


class Server:
    """One listening socket; serves until SIGTERM or SIGINT, then finishes what is running."""

    def __init__(self, app: Any, settings: Settings) -> None:
        """Open the port.

        Raises:
            CrackError: the port is taken or the address cannot be listened on.
        """
        self._settings = settings
        self._channels: dict[int, Any] = {}
        self._stop_at: float | None = None
        self._socket = listen(settings.host, settings.port)
        in_memory = 2 * settings.max_bytes + 2**20
        self._server = create_server(
            app,
            map=self._channels,
            sockets=[self._socket],
            # Beside the photos, room for the routes that answer at once.
            threads=settings.queue_size + 4,
            # Together with max_bytes this bounds the memory that clients can take.
            connection_limit=settings.queue_size + 56,
            channel_timeout=30,
            channel_request_lookahead=1,  # notices clients that leave
            max_request_body_size=settings.max_bytes + 1,  # the least size that is refused
            max_request_header_size=2**16,
            inbuf_overflow=in_memory,
            outbuf_overflow=max(in_memory, 2**30),
            recv_bytes=2**16,
            ident=None,
        )
        self._server.channel_class = Channel

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    def run(self) -> None:
        """Serve until `stop` is called."""
        while self._stop_at is None:
            wasyncore.loop(timeout=1, map=self._channels, count=1)
        self._drain()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT call `stop`; a second one ends the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def stop(self) -> None:
        """Stop accepting connections and let `run` return once every request is answered."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._settings.shutdown_grace_s
            self._server.pull_trigger()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        self.stop()

    def _drain(self) -> None:
        _LOG.info("stopping: no new connections, finishing what is running")
        wasyncore.dispatcher.close(self._server)  # the listening socket only
        deadline = self._stop_at or 0.0
        while time.monotonic() < deadline and self._close_idle():
            wasyncore.loop(timeout=0.1, map=self._channels, count=1)
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._channels)

    def _close_idle(self) -> int:
        """Close the connections with nothing under way; count the others."""
        busy = 0
        for channel in list(self._server.active_channels.values()):
            if channel.requests or channel.request is not None or channel.total_outbufs_len:
                busy += 1
            else:
                channel.handle_close()
        return busy


def listen(host: str, port: int) -> socket.socket:
    """Open a listening TCP socket.

    Raises:
        CrackError: the port is taken, or the address is not one of this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, proto)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen()
    except OSError as error:
        raise CrackError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; "
            "choose another with --host and --port"
        ) from error
    return opened
