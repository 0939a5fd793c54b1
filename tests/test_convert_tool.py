"""The command itself: start-up, messages, exit codes, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from crack_data.convert.linking import DEFAULT_GAP

from .conftest import UNMEASURED, ToolRun
from .markdown import blocks

TOOL = Path(__file__).resolve().parents[1] / "tools" / "convert_to_coco.py"
PAIRS = 120
WORKERS = 2
Tool = Callable[..., ToolRun]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pairs that several workers start."""
    root = tmp_path_factory.mktemp("set")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for number in range(PAIRS):
        mask = np.zeros((240, 320), np.uint8)
        cv2.line(mask, (0, number), (319, 40 + number // 2), 255, 3)
        noise = np.random.default_rng(number).integers(90, 180, mask.shape, np.uint8)
        cv2.imwrite(str(root / "images" / f"{number:03d}.jpg"), noise - mask // 3)
        cv2.imwrite(str(root / "masks" / f"{number:03d}.png"), mask)
    return root


def _words(folder: Path, output: Path, *more: str) -> list[str]:
    paths = ["--images", folder / "images", "--masks", folder / "masks", "--output", output]
    return [*map(str, paths), *more]


def _command(folder: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, str(TOOL), *_words(folder, output, *more)]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_help_needs_no_torch() -> None:
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']; sys.path.insert(0, {str(TOOL.parent)!r})\n"
    )
    code += f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    done = _run([sys.executable, "-c", code])
    assert "--skip-flagged" in done.stdout
    assert f"0: none ({DEFAULT_GAP})" in " ".join(done.stdout.split())
    assert done.stderr == "False\n"


def test_it_says_what_it_wrote_in_plain_lines(folder: Path, tmp_path: Path, run_tool: Tool) -> None:
    done = run_tool(
        TOOL.name, *_words(folder, tmp_path / "crack.json", "--split", "train=0.7,val=0.3")
    )
    assert done.returncode == 0
    assert f"{tmp_path / 'crack_train.json'}: " in done.stdout
    assert "photos (0 without crack)" in done.stdout
    assert "\r" not in done.stderr


def test_of_many_alike_pairs_some_are_listed_and_the_rest_counted(
    tmp_path: Path, run_tool: Tool
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[30:34] = 255
    for number in range(30):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), 255 - mask)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
    done = run_tool(TOOL.name, *_words(tmp_path, tmp_path / "crack.json"))
    assert "suspicious, duplicate_mask: 30\n" in done.stdout
    assert done.stdout.count(".png: 30\n") == 20
    assert "  ... and 10 more; --report lists all" in done.stdout


def test_bad_files_end_with_one_list_and_exit_1(tmp_path: Path, run_tool: Tool) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for name in "ab":
            (tmp_path / part / f"{name}.png").write_text("no picture")
    done = run_tool(TOOL.name, *_words(tmp_path, tmp_path / "crack.json"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: 2 files or folders cannot be used")
    assert "a.png" in done.stderr
    assert "b.png" in done.stderr
    assert not (tmp_path / "crack.json").exists()


def test_a_folder_without_read_permission_is_named(folder: Path, tmp_path: Path) -> None:
    for part in ("train_img", "train_lab", "test_img", "test_lab"):
        source = "images/000.jpg" if part.endswith("img") else "masks/000.png"
        (tmp_path / part).mkdir()
        shutil.copy(folder / source, tmp_path / part)
    forbidden = tmp_path / "test_lab"
    forbidden.chmod(0)
    try:
        command = _command(tmp_path, tmp_path / "crack.json")
        command[3], command[5] = str(tmp_path), str(tmp_path)
        command = [*as_ordinary_user(), *command]
        done = _run(command)
        assert done.returncode == 1
        assert f"  {forbidden} cannot be read: Permission denied" in done.stderr
        assert not (tmp_path / "crack.json").exists()
        done = _run([*command, "--skip-bad"])
        assert done.returncode == 0
        assert ": 1 photos" in done.stdout
        assert f"  {forbidden} cannot be read" in done.stdout
    finally:
        forbidden.chmod(0o755)


def test_any_file_name_is_listed(tmp_path: Path, run_tool: Tool) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "images" / "a.png")
    Image.new("L", (9, 9)).save(tmp_path / "masks" / "a.png")
    names = (b"latin-\xfc.png", '裂 "x".png'.encode())
    for name in names:
        (tmp_path / "images" / os.fsdecode(name)).touch()
    done = run_tool(TOOL.name, *_words(tmp_path, tmp_path / "crack.json"))
    assert done.returncode == 0, done.stderr
    listed = done.stdout.splitlines()[1:3]
    folder = tmp_path / "images"
    assert listed == [f"  {folder}/latin-\\udcfc.png", f'  {folder}/裂 "x".png']


def as_ordinary_user() -> list[str]:
    """What to put before a command so that file permissions count, also for root."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("permissions do not bind root, and setpriv is missing")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture(scope="module")
def complete(folder: Path) -> tuple[bytes, float]:
    """The bytes of an undisturbed run, and the seconds it takes."""
    start = time.monotonic()
    assert _run(_command(folder, folder / "whole.json", "--workers", str(WORKERS))).returncode == 0
    return (folder / "whole.json").read_bytes(), time.monotonic() - start


@pytest.fixture
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    (folder / "crack.json").write_bytes(b"old")
    process = subprocess.Popen(
        _command(folder, folder / "crack.json", "--workers", str(WORKERS)),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | UNMEASURED,
    )
    yield process
    process.kill()
    process.communicate()
    for left in folder.glob(".*.tmp"):
        left.unlink()


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_kill_leaves_the_old_file_or_the_whole_new_one(
    share: float,
    folder: Path,
    complete: tuple[bytes, float],
    started: subprocess.Popen[str],
) -> None:
    whole, seconds = complete
    time.sleep(share * seconds)
    helpers = psutil.Process(started.pid).children(recursive=True) if started.poll() is None else []
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert (folder / "crack.json").read_bytes() in (b"old", whole)
    _, alive = psutil.wait_procs(helpers, timeout=20)
    assert not alive


def test_ctrl_c_leaves_the_old_file_and_no_other(
    folder: Path, started: subprocess.Popen[str]
) -> None:
    while len(psutil.Process(started.pid).children(recursive=True)) < WORKERS:
        time.sleep(0.01)  # until the workers start; the work is then still to do
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    _, messages = started.communicate(timeout=60)
    assert started.returncode == 130
    assert messages.splitlines()[-1] == "interrupted"
    assert "Traceback" not in messages
    assert (folder / "crack.json").read_bytes() == b"old"
    assert not list(folder.glob(".crack.json.*"))


def test_the_printed_command_reads_drawn_labels(
    repo: Path, tmp_path: Path, run_tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = blocks(repo / "docs" / "data.md", "bash")
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.new("RGB", (60, 40)).save(tmp_path / "photos" / f"{number}.jpg")
    outline = {"category_id": 1, "segmentation": [[5, 5, 50, 5, 50, 9, 5, 9]]}
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(4)],
        "annotations": [outline | {"image_id": number} for number in range(4)],
        "categories": [{"id": 1, "name": "crack"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    python, tool, *words = shlex.split(command)
    assert (python, tool) == ("python", "tools/convert_to_coco.py")
    done = run_tool(TOOL.name, *words)
    assert done.returncode == 0, done.stderr
    assert "1 photos (0 without crack), 1 instances" in done.stdout
    assert (tmp_path / "datasets/crack/crack_val.json").is_file()


@pytest.mark.parametrize("given", [[], ["--masks", "m", "--labels", "l"]])
def test_masks_or_labels(given: list[str], run_tool: Tool) -> None:
    done = run_tool(TOOL.name, "--images", "i", "--output", "o.json", *given)
    assert done.returncode == 1
    assert "give either --masks or --labels" in done.stderr


@pytest.mark.parametrize("option", ["--images", "--masks", "--labels"])
def test_an_empty_path_is_not_the_current_folder(option: str, run_tool: Tool) -> None:
    words = {"--images": "i", "--output": "o.json"} | {option: ""}
    done = run_tool(TOOL.name, *[word for pair in words.items() for word in pair])
    assert done.returncode == 2
    assert f"argument {option}: the path is empty" in done.stderr


def test_a_report_that_cannot_be_is_said_before_the_work(tmp_path: Path, run_tool: Tool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("of another kind")
    for name in ("file", "site"):
        words = [*_words(tmp_path, tmp_path / "crack.json"), "--report", str(tmp_path / name)]
        done = run_tool(TOOL.name, *words)
        assert done.returncode == 1
        assert f"{name} must be a folder of its own" in done.stderr
    assert not (tmp_path / "crack.json").exists()
