"""The curl commands in README and docs/serving.md work as they are printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest


def printed_commands(text: str) -> list[str]:
    """The lines of shell blocks that start with curl."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
@pytest.mark.parametrize("page", ["README.md", "docs/serving.md"])
def test_curl_commands(url: str, repo: Path, photo: np.ndarray, tmp_path: Path, page: str) -> None:
    commands = printed_commands((repo / page).read_text())
    assert commands
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo)
    # curl goes to the test's server without a change to the commands.
    address = url.removeprefix("http://")
    (tmp_path / ".curlrc").write_text(f'connect-to = "localhost:8000:{address}"\nfail-with-body\n')
    environment = os.environ | {"HOME": str(tmp_path)}
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if "-D -" in command:
            assert re.search(r"^X-Crack-Percent-Masked: [0-9.]+\r?$", done.stdout, re.MULTILINE)
        if "format=json" in command:
            file = re.search(r"-o (\S+)", command)
            answer = (tmp_path / file[1]).read_text() if file else done.stdout
            assert json.loads(answer)["width"] == photo.shape[1]
    pictures = re.findall(r"-o (\S+\.(?:png|jpg))", "\n".join(commands))
    for picture in pictures:
        written = cv2.imread(str(tmp_path / picture), cv2.IMREAD_UNCHANGED)
        assert written.shape[:2] == photo.shape[:2], picture
