"""A folder in which the documentation's commands run as a user would type them."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from ..conftest import UNMEASURED

# Appended to every training command: the same run, made short.
SHORT = (
    "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 TEST.EVAL_PERIOD 2 CRACK.AUG.CROP_SIZE 128 "
    "DATALOADER.NUM_WORKERS 0"
)
_START_S = 120


class Workplace:
    """Runs commands in a folder that links to the checkout's tools, configs and weights."""

    def __init__(self, folder: Path, repo: Path) -> None:
        """Link the checkout's folders into ``folder``."""
        self.folder = folder
        for name in ("tools", "configs", "checkpoints"):
            (folder / name).symlink_to(repo / name)
        here = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            **UNMEASURED,
            "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        }
        self.environment.pop("DETECTRON2_DATASETS", None)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line to its end.

        Trainings are shortened and port 8000 is exchanged for a free one; what comes after
        `python tools/train_net.py` and its options is the documentation's.
        """
        line = self._adapt(command)
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}"
        assert "Warning: " not in done.stdout, f"{line}\n{done.stdout[:3000]}"
        return done

    def serve(self, command: str) -> subprocess.Popen[bytes]:
        """Start a `python -m serve …` line and wait until it answers."""
        words = shlex.split(f"{command} --port {self.port}")
        server = subprocess.Popen(
            [sys.executable, *words[1:]], cwd=self.folder, env=self.environment
        )
        deadline = time.monotonic() + _START_S
        while server.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return server
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        server.kill()
        raise AssertionError(f"no answer from: {command}")

    def _adapt(self, command: str) -> str:
        line = command.replace("localhost:8000", f"localhost:{self.port}")
        if "tools/train_net.py" in line:
            line = re.sub(r"$", f" {SHORT}", line, count=1)
        return line
