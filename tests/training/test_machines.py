"""Several machines: here, several commands with a rank each."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crack_data.training.launch import run

from .test_launch import _parse


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_machines_that_do_not_share_the_folder_do_not_resume(
    repo: Path, small: list[str], tmp_path: Path
) -> None:
    """One would go on and the other start anew, and their gradients be averaged."""
    outputs = [tmp_path / "one", tmp_path / "two"]
    run(_parse(repo, *small, "SOLVER.MAX_ITER", "1", "OUTPUT_DIR", str(outputs[0])))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    config = "configs/crack_mobilenet.yaml"
    command = [sys.executable, "tools/train_net.py", "--config-file", config]
    command += ["--num-machines", "2", "--num-gpus", "1", "--dist-url", url, "--resume"]
    processes = [
        subprocess.Popen(
            [*command, "--machine-rank", str(rank), *small, "SOLVER.MAX_ITER", "3",
             "OUTPUT_DIR", str(output)],
            cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank, output in enumerate(outputs)
    ]  # fmt: skip
    ended = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert all("do not find the same checkpoint in OUTPUT_DIR" in text for text in ended)
    assert not list(outputs[1].glob("model_*.pth"))
