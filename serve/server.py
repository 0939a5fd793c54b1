"""Tornado's HTTP server around the WSGI app: bounds on time, connections and memory, and a stop.

Tornado reads headers and bodies and writes answers in one thread, so a slow client costs a socket
and no thread; it bounds the time of headers and bodies itself. Added here: the bound on the time of
reading an answer, on connections, and on the bytes that all bodies and answers take.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.wsgi import WSGIContainer
from werkzeug.http import HTTP_STATUS_CODES, http_date
from werkzeug.wrappers import Response

from crack_data.errors import CrackError

from .settings import Settings

_LOG = logging.getLogger(__name__)

CONNECTIONS = 512
CONNECTIONS_PER_ADDRESS = 128
# Keys in the WSGI environment: a function that says whether the client has left, and whether the
# body was dropped because there was no memory for it.
CLIENT_GONE, NO_MEMORY = "serve.client_gone", "serve.no_memory"
_WAITING, _SENDING, _ANSWERING, _DONE = range(4)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Server(httputil.HTTPServerConnectionDelegate):
    """One listening port; serves until `stop`, then finishes what is running."""

    def __init__(self, app: Any, settings: Settings) -> None:
        """Open the port.

        Raises:
            CrackError: the port is taken or the address cannot be listened on.
        """
        self.app, self.settings = app, settings
        # Beside the photos, room for the routes that answer at once.
        self.threads = ThreadPoolExecutor(settings.queue_size + 4, "http")
        self.exchanges: list[Exchange] = []
        self.tasks: set[asyncio.Task] = set()
        self.stopping = asyncio.Event()
        try:
            self._sockets = bind_sockets(settings.port, settings.host)
        except OSError as error:
            raise CrackError(
                f"cannot listen on {settings.host}, port {settings.port}: "
                f"{error.strerror or error}; choose another with --host and --port"
            ) from error
        self.port = int(self._sockets[0].getsockname()[1])

    async def run(self) -> bool:
        """Serve until `stop` is called; return whether every request was answered by then."""
        self._loop = asyncio.get_running_loop()
        timeout = self.settings.client_timeout_s
        http = HTTPServer(
            self,
            idle_connection_timeout=timeout,
            body_timeout=timeout,
            max_header_size=2**16,
            max_body_size=2**62,  # the app refuses with a sentence; what is too much is not kept
        )
        http.add_sockets(self._sockets)
        await self.stopping.wait()
        _LOG.info("stopping: no new connections, finishing what is running")
        http.stop()
        grace_ends = time.monotonic() + self.settings.shutdown_grace_s
        while self._running() and time.monotonic() < grace_ends:
            await asyncio.sleep(0.02)
        finished = not self._running()
        await http.close_all_connections()
        self.threads.shutdown(wait=False)
        return finished

    def stop(self) -> None:
        """Let `run` return once what is running is answered; may be called from any thread."""
        self._loop.call_soon_threadsafe(self.stopping.set)

    def stop_on_signals(self) -> None:
        """Let SIGTERM, SIGINT and SIGHUP call `stop`; a second one ends the process at once."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

        def on_signal() -> None:
            for number in signals:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            self.stopping.set()

        for number in signals:
            loop.add_signal_handler(number, on_signal)

    @property
    def memory_full(self) -> bool:
        """Whether bodies and answers take all that they may: two of the largest for each slot."""
        limit = 2 * (self.settings.queue_size + 1) * self.settings.max_bytes
        return sum(exchange.held for exchange in self.exchanges) >= limit

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Begin an exchange on a connection: called when it is opened and after each answer."""
        self.exchanges = [x for x in self.exchanges if not x.over]
        exchange = Exchange(self, request_conn)
        same = [x for x in self.exchanges if x.address == exchange.address]
        if len(same) >= CONNECTIONS_PER_ADDRESS:
            _make_room(same, exchange)
        elif len(self.exchanges) >= CONNECTIONS:
            _make_room(self.exchanges, exchange)
        self.exchanges.append(exchange)
        return exchange

    def _running(self) -> bool:
        return any(not x.over and x.state != _WAITING for x in self.exchanges)


def _make_room(exchanges: list[Exchange], new: Exchange) -> None:
    """Close the oldest connection whose request has not come in full, else the new one."""
    incomplete = [x for x in exchanges if x.state < _ANSWERING]
    # The list has the order of arrival; connections without headers go first.
    min(incomplete, key=lambda x: x.state, default=new).stream.close()


class Exchange(httputil.HTTPMessageDelegate):
    """One request and its answer, or an open connection that has not sent its headers yet."""

    def __init__(self, server: Server, connection: Any) -> None:
        self._server, self._connection = server, connection
        self.stream = connection.stream
        self.address: str = connection.context.remote_ip
        self.state = _WAITING
        self._body = bytearray()
        self._size = 0
        self._no_memory = False
        self._answer_size = 0

    @property
    def over(self) -> bool:
        """Whether it is answered, or its connection closed."""
        return self.state == _DONE or self.stream.closed()

    @property
    def held(self) -> int:
        """Bytes that the body or the answer takes."""
        return len(self._body) + self._answer_size if not self.over else 0

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """Note the request's first line and headers."""
        self.state = _SENDING
        self._request = httputil.HTTPServerRequest(
            connection=self._connection, start_line=start_line, headers=headers
        )

    def data_received(self, chunk: bytes) -> None:
        """Keep a part of the body, or, where the body is too large, its size alone.

        It is read to its end all the same: most clients report a connection that is closed while
        they send, and not the answer that says why.
        """
        self._size += len(chunk)
        self._no_memory = self._no_memory or self._server.memory_full
        if self._no_memory or self._size > self._server.settings.max_bytes:
            self._body = bytearray()
        else:
            self._body += chunk

    def finish(self) -> None:
        """Let the app answer, now that the request has come in full."""
        self.state = _ANSWERING
        task = asyncio.get_running_loop().create_task(self._answer())
        self._server.tasks.add(task)  # the event loop alone would not keep it alive
        task.add_done_callback(self._server.tasks.discard)

    async def _answer(self) -> None:
        server = self._server
        try:
            answer = await asyncio.get_running_loop().run_in_executor(
                server.threads, Response.from_app, server.app, self._environ()
            )
            self._body = bytearray()
            self._request.body = b""
            self._write(answer)
            # Done when everything before it has gone to the client's side.
            await asyncio.wait_for(self.stream.write(b""), server.settings.client_timeout_s)
        except StreamClosedError:
            pass
        except asyncio.TimeoutError:
            _LOG.info("closed: the client did not read its answer in time")
            option = (socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.stream.socket.setsockopt(*option)
            self.stream.close()
        except Exception:
            _LOG.exception("the app gave no answer")
            self.stream.close()
        finally:
            self.state = _DONE

    def _environ(self) -> dict[str, Any]:
        headers = self._request.headers
        headers.pop("Transfer-Encoding", None)  # it is undone
        headers["Content-Length"] = str(self._size)
        self._request.body = bytes(self._body)
        environ = WSGIContainer(self._server.app).environ(self._request)
        return {**environ, CLIENT_GONE: self.stream.closed, NO_MEMORY: self._no_memory}

    def _write(self, answer: Response) -> None:
        body = answer.get_data()
        self._answer_size = len(body)
        if self._server.stopping.is_set():
            answer.headers["Connection"] = "close"
        headers = httputil.HTTPHeaders({"Date": http_date()})
        for name, value in answer.headers:
            headers.add(name, value)
        reason = HTTP_STATUS_CODES.get(answer.status_code, "Unknown")
        start_line = httputil.ResponseStartLine("HTTP/1.1", answer.status_code, reason)
        self._connection.write_headers(start_line, headers, chunk=body)
        self._connection.finish()
