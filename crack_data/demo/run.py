"""The demo from the first photo to the page."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

from ..errors import CrackError
from .page import answer_headers, crack_metrics, write_page
from .plan import (
    DemoOptions,
    benchmark_step,
    data_steps,
    model_steps,
    post_command,
    serve_command,
)
from .shell import Shell

_START_S = 120


def run_demo(options: DemoOptions) -> Path:
    """Run every step and write the page.

    Args:
        options: what to work on.

    Returns:
        the page, ``output/index.html``.

    Raises:
        CrackError: a step failed, or curl is missing.
    """
    if shutil.which("curl") is None:
        raise CrackError("the demo posts a photo with curl, which is not installed")
    _clear(options.output)
    shell = Shell(options.output / "logs")
    for step in data_steps(options):
        shell.run(step.title, step.command)
    samples = _copy_samples(options)
    for step in model_steps(options):
        shell.run(step.title, step.command, shown=1)
        if step.evaluation:
            print(f"  {_sentence(crack_metrics(step.evaluation))}", flush=True)
    _serve_and_post(options, shell, samples[0])
    step = benchmark_step(options)
    shell.run(step.title, step.command)
    return write_page(options)


def _sentence(metrics: dict[str, float]) -> str:
    """The two numbers that matter most."""
    return f"pixel F1 {metrics['f1']:.3f}, coverage error {metrics['coverage_mae']:.2f} points"


def _clear(output: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / "logs" / "01.txt").is_file():
        raise CrackError(f"{output} holds other files than a demo's; name another folder")
    shutil.rmtree(output)


def _copy_samples(options: DemoOptions) -> list[Path]:
    """Copy the validation photos with most cracks, and at least one without, to samples/."""
    path = options.output / "crack_val.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    root = path.parent / data["info"]["image_root"]
    area = {image["id"]: 0 for image in data["images"]}
    for annotation in data["annotations"]:
        area[annotation["image_id"]] += annotation["area"]
    images = sorted(data["images"], key=lambda image: (-area[image["id"]], image["file_name"]))
    chosen = images[: options.samples]
    if images and area[images[-1]["id"]] == 0 and images[-1] not in chosen:
        chosen[-1] = images[-1]
    folder = options.output / "samples"
    folder.mkdir()
    return [Path(shutil.copy(root / image["file_name"], folder)) for image in chosen]


def _serve_and_post(options: DemoOptions, shell: Shell, photo: Path) -> None:
    port = _free_port()
    serve = serve_command(options, port)
    with shell.background("Serve the tuned model", serve) as server:
        _wait_until_ready(server, port)
        shell.run("Post a photo to it", post_command(options, photo, port))
    print(textwrap.indent(answer_headers(options.output / "answer_headers.txt"), "  "), flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise CrackError("the server did not become ready; its log is the last in logs/")
