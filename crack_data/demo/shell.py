"""Runs commands: prints each one plainly, keeps its whole output in a log, shows the end of it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import CrackError

_SHOWN_OF_A_FAILURE = 25


class Shell:
    """Runs the demo's commands one after the other, with this Python for "python"."""

    def __init__(self, logs: Path) -> None:
        """Logs go to the folder ``logs`` as 01.txt, 02.txt, …"""
        self._logs = logs
        self._count = 0

    def run(self, title: str, command: Sequence[str], shown: int = 3) -> None:
        """Run a command to its end and show the last ``shown`` lines of its output.

        Raises:
            CrackError: it failed; the message names its log.
        """
        log = self._announce(title, command)
        started = time.monotonic()
        with log.open("w") as file:
            code = subprocess.run(
                _executable(command), stdout=file, stderr=subprocess.STDOUT, check=False
            ).returncode
        seconds = time.monotonic() - started
        _show(log, _SHOWN_OF_A_FAILURE if code else shown)
        if code:
            raise CrackError(f"step {self._count} failed; {log} has all of its output")
        print(f"  ({seconds:.0f} s)", flush=True)

    @contextmanager
    def background(self, title: str, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside the block, and stop it by SIGTERM after it."""
        log = self._announce(title, [*command, "&"])
        with (
            log.open("w") as file,
            subprocess.Popen(
                _executable(command), stdout=file, stderr=subprocess.STDOUT
            ) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()

    def _announce(self, title: str, command: Sequence[str]) -> Path:
        self._count += 1
        print(f"\n{self._count}. {title}\n$ {plain(command)}", flush=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        return self._logs / f"{self._count:02d}.txt"


def plain(command: Sequence[str]) -> str:
    """The command as one would type it."""
    return " ".join(_quoted(word) for word in command)


def _quoted(word: str) -> str:
    if word == "&":
        return word
    easy = "'" in word and not set('"$`\\!') & set(word)
    return f'"{word}"' if easy else shlex.quote(word)


def _executable(command: Sequence[str]) -> list[str]:
    return [sys.executable if command[0] == "python" else command[0], *command[1:]]


def _show(log: Path, lines: int) -> None:
    with log.open(errors="replace") as file:
        for line in deque((line for line in file if line.strip()), lines):
            print(f"  {line.rstrip()[:200]}")
