"""How a server holds up under load, against the bare predictor in a loop."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crack_data.errors import CrackError

from .server_process import ServerProcess

_CLIENTS = 4


@dataclass(frozen=True)
class LoadFigures:
    """Answers under a load: number, failures, photos per second, and times in ms."""

    answers: int
    failures: int
    per_second: float
    median_ms: float
    p99_ms: float

    def line(self) -> str:
        """The figures as text."""
        return (
            f"{self.per_second:.1f} photos/s, median {self.median_ms:.0f} ms, "
            f"p99 {self.p99_ms:.0f} ms ({self.p99_ms / self.median_ms:.2f} x), "
            f"{self.answers} answers, {self.failures} failures"
        )


class BarePredictor:
    """The predictor in a process of its own, idle between measurements."""

    def __init__(self, photos: Path, flags: Sequence[str]) -> None:
        """Start it and wait until it is loaded."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server.bare", str(photos), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self._read() != "ready":
            raise CrackError("the bare predictor did not start")

    def per_second(self, seconds: float) -> float:
        """Photos per second over that many seconds."""
        assert self._process.stdin is not None
        print(seconds, file=self._process.stdin, flush=True)
        return float(self._read())

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def put_under_load(
    server: ServerProcess, photos: Path, query: str, seconds: float, per_second: float = 0
) -> LoadFigures:
    """Let locust, a separate process, post photos by 4 users.

    Args:
        server: ready.
        photos: a folder of JPEGs.
        query: of the URL, from the question mark on, or empty.
        seconds: how long.
        per_second: paced to this many photos per second; 0: each user as fast as it can.

    Raises:
        CrackError: locust failed.
    """
    environment = os.environ | {
        "TRIAL_PHOTOS": str(photos),
        "TRIAL_QUERY": query,
        "TRIAL_RATE": str(per_second / _CLIENTS),
    }
    command = [sys.executable, "-m", "locust", "--locustfile", str(_locustfile())]
    command += ["--headless", "--json", "--exit-code-on-error", "0", "--stop-timeout", "60"]
    command += ["--users", str(_CLIENTS), "--spawn-rate", str(_CLIENTS)]
    command += ["--host", server.url, "--run-time", f"{max(1, round(seconds))}s"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise CrackError(f"locust failed: {done.stderr[-300:]}")
    return _figures(json.loads(done.stdout)[0])


def _locustfile() -> Path:
    return Path(__file__).with_name("locustfile.py")


def _figures(entry: dict) -> LoadFigures:
    times = sorted(Counter({float(ms): n for ms, n in entry["response_times"].items()}).elements())
    answers = entry["num_requests"]
    duration = entry["last_request_timestamp"] - entry["start_time"]
    return LoadFigures(
        answers,
        entry["num_failures"],
        answers / duration,
        statistics.median(times),
        statistics.quantiles(times, n=100, method="inclusive")[98],
    )
