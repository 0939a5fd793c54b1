#!/usr/bin/env python
"""Run everything once, on drawn photos or on your own, printing each plain command."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.demo.page import answer_headers, crack_metrics, write_page
from crack_data.errors import CrackError, run_tool

CONFIG = "configs/crack_mobilenet.yaml"
SHIPPED = "checkpoints/crack_mobilenet.pth"
START_S = 120
SHOWN_OF_A_FAILURE = 25


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path("demo_out"), metavar="DIR", help="folder for results")
    add("--images", type=Path, metavar="DIR", help="your photos (default: drawn ones)")
    add("--masks", type=Path, metavar="DIR", help="their masks")
    add("--photos", type=int, default=60, metavar="N", help="how many to draw")
    add("--iterations", type=int, default=40, metavar="N", help="of fine-tuning")
    add("--crop", type=int, default=256, metavar="PX", help="side of the training crops")
    add("--rounds", type=int, default=3, metavar="N", help="how often the benchmark times a photo")
    args = parser.parse_args()
    if (args.images is None) != (args.masks is None):
        raise CrackError("give both IMAGES=… and MASKS=…, or neither for drawn photos")
    return args


class Shell:
    """Runs commands one after the other, with this Python for "python"; each has its log."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.count = 0

    def run(self, title: str, command: str, shown: int = 3) -> None:
        """Run a command to its end and show the last ``shown`` lines of its output."""
        started = time.monotonic()
        process, log = self.start(title, command)
        code = process.wait()
        lines = [x for x in log.read_text(errors="replace").splitlines() if x.strip()]
        for line in lines[-(SHOWN_OF_A_FAILURE if code else shown) :]:
            print(f"  {line[:200]}")
        if code:
            raise CrackError(f"step {self.count} failed; {log} has all of its output")
        print(f"  ({time.monotonic() - started:.0f} s)", flush=True)

    def start(self, title: str, command: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a command whose whole output goes to its log."""
        self.count += 1
        print(f"\n{self.count}. {title}\n$ {command}", flush=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{self.count:02d}.txt"
        words = shlex.split(command)
        words[0] = sys.executable if words[0] == "python" else words[0]
        with log.open("wb") as file:
            return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT), log


def run_demo(args: argparse.Namespace) -> Path:
    """Run every step, from the first photo to the page, and return the page."""
    if shutil.which("curl") is None:
        raise CrackError("the demo posts a photo with curl, which is not installed")
    _clear(args.output)
    out = shlex.quote(str(args.output))
    shell = Shell(args.output / "logs")
    _make_data(shell, args, out)
    samples = _copy_samples(args.output)
    sets = (
        f"""DATASETS.TRAIN "('{args.output}/crack_train.json',)" """
        f"""DATASETS.TEST "('{args.output}/crack_val.json',)" """
    ).strip()
    _judge(shell, args, "shipped", SHIPPED, "before", sets)
    shell.run("Fine-tune it on these photos", _training(args, out, sets), shown=1)
    tuned = f"{out}/training/model_best.pth"
    _judge(shell, args, "tuned", tuned, "after", sets)
    _serve_and_post(shell, args, tuned, samples[0])
    shell.run(
        "Compare the light model with R101",
        f"python tools/benchmark.py --images {out}/samples --max-images 2 --rounds {args.rounds} "
        f"--config-file configs/crack_r101.yaml --config-file {CONFIG} --output {out}/benchmark",
    )
    return write_page(args.output, args.iterations, drawn=args.images is None)


def _clear(output: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / "logs" / "01.txt").is_file():
        raise CrackError(f"{output} holds other files than a demo's; name another folder")
    shutil.rmtree(output)


def _make_data(shell: Shell, args: argparse.Namespace, out: str) -> None:
    images, masks = f"{out}/photos/images", f"{out}/photos/masks"
    if args.images:
        images, masks = shlex.quote(str(args.images)), shlex.quote(str(args.masks))
    else:
        shell.run(
            "Draw photos with cracks, and masks as noisy as real ones",
            f"python tools/make_synthetic.py --output {out}/photos --count {args.photos} --noise",
        )
    shell.run(
        "Clean the masks, split them into instances, write COCO JSON and the report",
        f"python tools/convert_to_coco.py --images {images} --masks {masks} "
        f"--output {out}/crack.json --split train=0.8,val=0.2 --report {out}/report",
    )


def _copy_samples(output: Path, most: int = 6) -> list[Path]:
    """Copy the validation photos with most cracks, and at least one without, to samples/."""
    path = output / "crack_val.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    area = {image["id"]: 0 for image in data["images"]}
    for annotation in data["annotations"]:
        area[annotation["image_id"]] += annotation["area"]
    images = sorted(data["images"], key=lambda image: (-area[image["id"]], image["file_name"]))
    chosen = images[:most]
    if images and area[images[-1]["id"]] == 0 and images[-1] not in chosen:
        chosen[-1] = images[-1]
    folder = output / "samples"
    folder.mkdir()
    root = path.parent / data["info"]["image_root"]
    return [Path(shutil.copy(root / image["file_name"], folder)) for image in chosen]


def _judge(
    shell: Shell, args: argparse.Namespace, model: str, weights: str, name: str, sets: str
) -> None:
    """Predict the samples with a model, and evaluate it."""
    out = shlex.quote(str(args.output))
    shell.run(
        f"What the {model} model sees",
        f"python tools/predict.py --input {out}/samples --output {out}/{name} --weights {weights}",
        shown=1,
    )
    shell.run(
        "How well that fits the masks",
        f"python tools/train_net.py --config-file {CONFIG} --eval-only MODEL.WEIGHTS {weights} "
        f"{sets} OUTPUT_DIR {out}/evaluation_{name}",
        shown=1,
    )
    metrics = crack_metrics(args.output / f"evaluation_{name}")
    print(f"  pixel F1 {metrics['f1']:.3f}, coverage error {metrics['coverage_mae']:.2f} points")


def _training(args: argparse.Namespace, out: str, sets: str) -> str:
    """A few dozen iterations: a small rate, a short warm-up, and an average that keeps up."""
    steps = args.iterations
    return (
        f"python tools/train_net.py --config-file {CONFIG} MODEL.WEIGHTS {SHIPPED} {sets} "
        f"SOLVER.MAX_ITER {steps} SOLVER.BASE_LR 0.0003 SOLVER.WARMUP_ITERS {steps // 8} "
        f"SOLVER.CHECKPOINT_PERIOD {steps} TEST.EVAL_PERIOD {steps // 2} CRACK.EMA_DECAY 0.9 "
        f"CRACK.AUG.CROP_SIZE {args.crop} OUTPUT_DIR {out}/training"
    )


def _serve_and_post(shell: Shell, args: argparse.Namespace, weights: str, photo: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = shlex.quote(str(args.output))
    command = f"python -m serve --weights {weights} --port {port}"
    server, _ = shell.start("Serve the tuned model", command)
    try:
        _wait_until_ready(server, port)
        shell.run(
            "Post a photo to it",
            f"curl -sS -F image=@{shlex.quote(str(photo))} localhost:{port}/predict "
            f"-o {out}/answer.png -D {out}/answer_headers.txt",
        )
    finally:
        server.terminate()
        server.wait()
    print(answer_headers(args.output / "answer_headers.txt"), flush=True)


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise CrackError("the server did not become ready; its log is the last in logs/")


def main() -> None:
    """Run the demo and say where its page is."""
    print(f"\nOpen {run_demo(parse_args())}")


if __name__ == "__main__":
    run_tool(main)
