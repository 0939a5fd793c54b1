"""The process pool: order, and a Ctrl-C at any moment of its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crack_data.convert.parallel import WorkerPool

# Sends Ctrl-C to itself and all its workers, as a terminal does, a moment after the pool starts.
_INTERRUPTED = """
import os, signal, sys, threading, time
from crack_data.errors import run_tool
from crack_data.convert.parallel import WorkerPool

def main():
    threading.Timer(float(sys.argv[1]), os.killpg, (0, signal.SIGINT)).start()
    with WorkerPool(2) as pool:
        for _ in pool.ordered_map(time.sleep, [0.05] * 500):
            pass

if __name__ == "__main__":
    run_tool(main)
"""


def test_results_come_in_order() -> None:
    items = list(range(-100, 100))
    for workers in (1, 2):
        with WorkerPool(workers) as pool:
            assert list(pool.ordered_map(abs, items)) == [abs(item) for item in items]
            assert list(pool.ordered_map(str, items)) == [str(item) for item in items]


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.1, 0.2, 0.6])
def test_ctrl_c_at_any_moment_is_one_word(seconds: float, tmp_path: Path, repo: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(_INTERRUPTED)
    ended = subprocess.run(
        [sys.executable, str(script), str(seconds)],
        cwd=repo,
        env={"PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 130
    assert ended.stderr == "interrupted\n"
