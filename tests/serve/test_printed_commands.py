"""The curl commands of docs/serving.md work as they are printed; the README's are tested whole."""

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

from ..conftest import REPO
from ..markdown import commands

COMMANDS = [line for line in commands(REPO / "docs/serving.md") if line.startswith("curl ")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
@pytest.mark.parametrize("command", COMMANDS)
def test_curl(url: str, photo: np.ndarray, tmp_path: Path, command: str) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo)
    # curl goes to the test's server without a change to the commands.
    address = url.removeprefix("http://")
    (tmp_path / ".curlrc").write_text(f'connect-to = "localhost:8000:{address}"\nfail-with-body\n')
    done = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    if "-D -" in command:
        assert re.search(r"^X-Crack-Percent-Masked: [0-9.]+\r?$", done.stdout, re.MULTILINE)
    file = re.search(r"-o (\S+)", command)
    if "format=json" in command:
        answer = (tmp_path / file[1]).read_text() if file else done.stdout
        assert json.loads(answer)["width"] == photo.shape[1]
    elif file and file[1].endswith((".png", ".jpg")):
        picture = cv2.imread(str(tmp_path / file[1]), cv2.IMREAD_UNCHANGED)
        assert picture.shape[:2] == photo.shape[:2]
