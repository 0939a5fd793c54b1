"""Tornado's HTTP server around the WSGI app: bounds on time, connections and memory, and a stop.

Tornado reads and writes in one thread, so a slow client costs a socket and no thread; it bounds the
time of headers and bodies itself. Added here: the bound on the time of reading an answer, on
connections, and on the bytes that all bodies and answers take.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.wsgi import WSGIContainer
from werkzeug.http import http_date
from werkzeug.wrappers import Response

from crack_data.errors import as_crack_error

from .app import CLIENT_GONE, NO_MEMORY, CrackApp

_LOG = logging.getLogger(__name__)

CONNECTIONS = 512
CONNECTIONS_PER_ADDRESS = 128
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RESET_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def run(app: CrackApp) -> NoReturn:
    """Serve an app until a signal stops it (exit code 0) or its model fails (1)."""
    server = Server(app)

    def stop(*_: object) -> None:
        for number in _SIGNALS:  # a second one ends the process at once
            signal.signal(number, signal.SIG_DFL)
        server.stopping.set()

    for number in _SIGNALS:
        signal.signal(number, stop)
    app.worker.start()
    asyncio.run(server.run())
    _LOG.info("stopped")
    if app.worker.failure is not None:
        print(f"error: {app.worker.failure}", file=sys.stderr, flush=True)
    # A usual end would wait for the inference thread.
    os._exit(0 if app.worker.failure is None else 1)


class Server(httputil.HTTPServerConnectionDelegate):
    """One listening port, served by `run` until ``stopping`` is set or the model fails."""

    def __init__(self, app: CrackApp) -> None:
        """Open the port; a `CrackError` says why that cannot be done."""
        self.app, self.settings = app, app.settings
        # Beside the photos, room for the routes that answer at once.
        self.threads = ThreadPoolExecutor(self.settings.queue_size + 4, "http")
        self._exchanges: list[Exchange] = []
        self.stopping = threading.Event()
        host, port = self.settings.host, self.settings.port
        with as_crack_error(f"cannot listen on --host {host} and --port {port}"):
            self._sockets = bind_sockets(port, host)
        self.port = int(self._sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Serve, then answer the requests that have come, for as long as the grace lasts."""
        host, timeout = self.settings.host, self.settings.client_timeout_s
        where = f"[{host}]" if ":" in host else host
        _LOG.info("listening on http://%s:%d", where, self.port, extra={"port": self.port})
        # The app refuses large bodies with a sentence; what is too much is not kept.
        http = HTTPServer(
            self, idle_connection_timeout=timeout, body_timeout=timeout, max_body_size=2**62
        )
        http.add_sockets(self._sockets)
        while not self.stopping.is_set() and self.app.worker.failure is None:
            await asyncio.sleep(0.05)
        if self.app.worker.failure is not None:
            await asyncio.sleep(1)  # in which /readyz says why
        _LOG.info("stopping: no new connections, finishing what is running")
        http.stop()
        grace_ends = time.monotonic() + self.settings.shutdown_grace_s
        while time.monotonic() < grace_ends and any(x.request for x in self.exchanges()):
            await asyncio.sleep(0.02)
        await http.close_all_connections()
        self.threads.shutdown(wait=False)

    def exchanges(self) -> list[Exchange]:
        """The exchanges that are not over, oldest first."""
        self._exchanges = [x for x in self._exchanges if not x.over]
        return self._exchanges

    def start_request(self, server_conn: object, request_conn: Any) -> Exchange:
        """Begin an exchange on a connection: called when it is opened and after each answer."""
        new = Exchange(self, request_conn)
        same = [x for x in self.exchanges() if x.address == new.address]
        crowd = same if len(same) >= CONNECTIONS_PER_ADDRESS else self._exchanges
        if crowd is same or len(crowd) >= CONNECTIONS:
            # The oldest goes whose request has not come in full, one without headers first.
            incomplete = [x for x in crowd if x.answering is None]
            min(incomplete, key=lambda x: x.request is not None, default=new).stream.close()
        self._exchanges.append(new)
        return new


class Exchange(httputil.HTTPMessageDelegate):
    """One request and its answer, or an open connection that has not sent its headers yet."""

    def __init__(self, server: Server, connection: Any) -> None:
        self._server, self._connection = server, connection
        self.stream = connection.stream
        self.address: str = connection.context.remote_ip
        self.request: httputil.HTTPServerRequest | None = None  # until its headers came
        self.answering: asyncio.Task | None = None  # until the request came in full
        self.held = 0  # bytes that the body or the answer takes
        self._body, self._size = bytearray(), 0
        self._no_memory = False

    @property
    def over(self) -> bool:
        """Whether the client has all of its answer, or its connection is closed."""
        return self.stream.closed() or (self.answering is not None and self.answering.done())

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """Note the request's first line and headers."""
        self.request = httputil.HTTPServerRequest(
            connection=self._connection, start_line=start_line, headers=headers
        )

    def data_received(self, chunk: bytes) -> None:
        """Keep a part of the body, or, where the body is too large, its size alone."""
        # Read to its end all the same: most clients report a connection that is closed while they
        # send, and not the answer that says why.
        settings = self._server.settings
        self._size += len(chunk)
        limit = 2 * (settings.queue_size + 1) * settings.max_bytes  # two of the largest a slot
        held = (x.held for x in self._server.exchanges())
        self._no_memory = self._no_memory or sum(held) >= limit
        if self._no_memory or self._size > settings.max_bytes:
            self._body.clear()
        else:
            self._body += chunk
        self.held = len(self._body)

    def finish(self) -> None:
        """Let the app answer, now that the request has come in full."""
        self.answering = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        server = self._server
        try:
            answer = await asyncio.get_running_loop().run_in_executor(
                server.threads, Response.from_app, server.app, self._environ()
            )
            body = answer.get_data()
            self.held = len(body)
            if server.stopping.is_set():
                answer.headers["Connection"] = "close"
            answer.headers["Date"] = http_date()
            headers = httputil.HTTPHeaders()
            for name, value in answer.headers:
                headers.add(name, value)
            start_line = httputil.parse_response_start_line(f"HTTP/1.1 {answer.status}")
            self._connection.write_headers(start_line, headers, chunk=body)
            self._connection.finish()
            # Done when everything before it has gone to the client's side.
            await asyncio.wait_for(self.stream.write(b""), server.settings.client_timeout_s)
        except asyncio.TimeoutError:
            _LOG.info("closed: the client did not read its answer in time")
            self.stream.socket.setsockopt(*_RESET_ON_CLOSE)
            self.stream.close()
        except Exception as error:
            if not isinstance(error, StreamClosedError):
                _LOG.exception("the app gave no answer")
            self.stream.close()

    def _environ(self) -> dict[str, Any]:
        """The request for WSGI; its body is handed over."""
        request = self.request
        assert request is not None
        request.headers.pop("Transfer-Encoding", None)  # it is undone
        request.headers["Content-Length"] = str(self._size)
        request.host = "localhost"  # the app reads the header, or refuses it
        environ = WSGIContainer(self._server.app).environ(request)
        environ |= {"wsgi.input": io.BytesIO(self._body), NO_MEMORY: self._no_memory}
        self._body.clear()
        return {**environ, CLIENT_GONE: self.stream.closed}
