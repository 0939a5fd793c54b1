"""A real server in a process of its own, on a port that the system chose."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import psutil
import requests

from crack_data.errors import CrackError


class ServerProcess:
    """``python -m serve --port 0 …``, as a context manager; ``log`` collects its JSON lines."""

    def __init__(
        self,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        module: str = "serve",
    ) -> None:
        """Start the process; it is listening when this returns.

        Args:
            arguments: further flags.
            environment: its environment; None: the caller's.
            module: what Python runs.

        Raises:
            CrackError: it ended before it listened; the message is what it wrote.
        """
        self.log: list[dict[str, Any]] = []
        self.other_lines: list[str] = []
        self.started = time.monotonic()
        self._listening = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._listening.wait()
        if not self.url:
            raise CrackError(f"the server did not start: {' '.join(self.other_lines)}")

    def __enter__(self) -> ServerProcess:
        """Return the server, which runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self, timeout_s: float = 120) -> float:
        """Wait until ``/readyz`` says yes; return the seconds since the process was started.

        Raises:
            CrackError: it ended, or is not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if requests.get(self.url + "/readyz", timeout=5).ok:
                    return time.monotonic() - self.started
            except (requests.ConnectionError, requests.Timeout):
                pass  # it is ending, as the loop's condition sees next, or the machine is busy
            time.sleep(0.05)
        raise CrackError(f"the server is not ready: {' '.join(self.other_lines[-3:])}")

    def resident_mb(self) -> float:
        """Resident memory of the process, in MB (1e6 bytes)."""
        return psutil.Process(self.pid).memory_info().rss / 1e6

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self._process.terminate()

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for its end; return the exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def stop(self) -> int:
        """Send SIGTERM and wait for the end; return the exit code."""
        if self._process.poll() is None:
            self.terminate()
        return self.wait()

    def _read(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        for line in stream:
            try:
                record = json.loads(line)
            except ValueError:
                self.other_lines.append(line.strip())
                continue
            self.log.append(record)
            if "port" in record:
                self.url = f"http://127.0.0.1:{record['port']}"
                self._listening.set()
        stream.close()
        self._listening.set()
