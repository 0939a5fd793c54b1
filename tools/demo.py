#!/usr/bin/env python
"""Run everything once, on drawn photos or on your own, printing each plain command."""

import argparse
import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import jinja2
import numpy as np

from crack_data.annotations import read_records
from crack_data.errors import CrackError, run_tool
from crack_data.photos import read_photo
from crack_data.segmentation import union_mask
from crack_data.storage import write_bytes

CONFIG = "configs/crack_mobilenet.yaml"
SHIPPED = "checkpoints/crack_mobilenet.pth"
Metrics = dict[str, float]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path("demo_out"), metavar="DIR", help="folder for results")
    add("--images", default="", metavar="DIR", help="your photos (default: drawn ones)")
    add("--masks", default="", metavar="DIR", help="their masks")
    add("--photos", type=int, default=80, metavar="N", help="how many to draw")
    add("--iterations", type=int, default=40, metavar="N", help="of fine-tuning")
    args = parser.parse_args()
    if bool(args.images) != bool(args.masks):
        raise CrackError("give both IMAGES=… and MASKS=…, or neither for drawn photos")
    for folder in map(Path, filter(None, (args.images, args.masks))):
        if not folder.is_dir():
            raise CrackError(f"{folder} is no folder; name the one of your photos or masks")
        if folder.resolve().is_relative_to(args.output.resolve()):
            raise CrackError(
                f"{folder} lies in the demo's output folder, which is emptied; "
                "name another --output"
            )
    if shutil.which("curl") is None:
        raise CrackError("the demo posts a photo with curl, which is not installed")
    return args


class Shell:
    """Runs commands one after the other, with this Python for "python"; each has its log."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.count = 0

    def run(self, title: str, command: str, shown: int = 1, required: bool = True) -> str:
        """Run a command, show the last ``shown`` lines of its output, and return all of it."""
        started = time.monotonic()
        failed = self.start(title, command).wait() != 0 and required
        log = self.logs / f"{self.count:02d}.txt"
        lines = [x for x in log.read_text(errors="replace").splitlines() if x.strip()]
        for line in lines[max(0, len(lines) - (25 if failed else shown)) :]:
            print(f"  {line[:400]}")
        if failed:
            raise CrackError(f"step {self.count} failed; {log} has all of its output")
        print(f"  ({time.monotonic() - started:.0f} s)", flush=True)
        return "\n".join(lines)

    def start(self, title: str, command: str) -> subprocess.Popen[bytes]:
        """Start a command whose whole output goes to its log."""
        self.count += 1
        print(f"\n{self.count}. {title}\n$ {command}", flush=True)
        words = shlex.split(command)
        words[0] = sys.executable if words[0] == "python" else words[0]
        with (self.logs / f"{self.count:02d}.txt").open("wb") as file:
            return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)


def main() -> None:
    """Run every step, from the first photo to the page."""
    args = parse_args()
    if args.output.is_symlink():  # what it leads to is made anew, not the link
        args.output = args.output.resolve()
    output: Path = args.output
    if output.exists() and any(output.iterdir()):
        if not (output / "logs" / "01.txt").is_file():
            raise CrackError(f"{output} holds other files than a demo's; name another folder")
        shutil.rmtree(output)
    out = shlex.quote(str(output))
    shell = Shell(output / "logs")
    shell.logs.mkdir(parents=True)
    make_data(shell, args, out)
    truth = copy_samples(output)
    test = f"DATASETS.TEST {data_set(output, 'val')}"
    metrics = {"shipped": judge(shell, output, "shipped", SHIPPED, test)}
    tuned = fine_tune(shell, args, out, test)
    metrics["tuned"] = judge(shell, output, "tuned", tuned, test)
    headers = serve_and_post(shell, out, tuned, output / "samples" / next(iter(truth)))
    (output / "r101_320.yaml").write_text(
        f"_BASE_: {Path('configs/crack_r101.yaml').resolve()}\n"
        "INPUT: {MIN_SIZE_TEST: 320}\nMODEL: {RPN: {POST_NMS_TOPK_TEST: 300}}\n"
    )
    shell.run(
        "Compare the light model's speed with R101's",
        f"python tools/benchmark.py --images {out}/samples --max-images 1 --rounds 2 "
        f"--config-file {out}/r101_320.yaml --config-file configs/predict_mobilenet.yaml "
        f"--output {out}/benchmark",
        shown=3,
    )
    write_page(args, truth, metrics, headers)
    print(f"\nOpen {output / 'index.html'}")


def make_data(shell: Shell, args: argparse.Namespace, out: str) -> None:
    """Draw photos unless there are some, and convert them."""
    images, masks = f"{out}/photos/images", f"{out}/photos/masks"
    if args.images:
        images, masks = shlex.quote(args.images), shlex.quote(args.masks)
    else:
        shell.run(
            "Draw photos with cracks, and masks as noisy as real ones",
            f"python tools/make_synthetic.py --output {out}/photos --count {args.photos} --noise",
        )
    shell.run(
        "Clean the masks, split them into instances, write COCO JSON and the report",
        f"python tools/convert_to_coco.py --images {images} --masks {masks} "
        f"--output {out}/crack.json --split train=0.4,val=0.6 --report {out}/report",
        shown=3,
    )


def copy_samples(output: Path) -> dict[str, float]:
    """Copy some validation photos to samples/, drawn to truth/; return what percentage is crack."""
    records = read_records(str(output / "crack_val.json"))
    records.sort(key=lambda record: -int(union_mask(record).sum()))
    (output / "samples").mkdir()
    (output / "truth").mkdir()
    truth, red = {}, np.array((40, 40, 230))  # BGR
    chosen = [*records[:5], *records[5:][-1:]]  # with most cracks, and one without
    for number, record in enumerate(chosen, 1):  # which tells photos of the same name apart
        photo, mask = read_photo(record["file_name"]), union_mask(record)
        place = output / "samples" / f"{number}_{Path(record['file_name']).name}"
        shutil.copy(record["file_name"], place)
        photo[mask] = (0.4 * photo[mask] + 0.6 * red).astype(np.uint8)
        cv2.imwrite(str(output / "truth" / f"{place.stem}.png"), photo)
        truth[place.name] = 100 * float(mask.mean())
    return truth


def judge(shell: Shell, output: Path, name: str, weights: str, test: str) -> Metrics:
    """Predict the samples with a model, evaluate it, and return its metrics."""
    out = shlex.quote(str(output))
    shell.run(
        f"What the {name} model sees",
        f"python tools/predict.py --input {out}/samples --output {out}/{name} --weights {weights}",
    )
    shell.run(
        "How well that fits the masks",
        f"python tools/train_net.py --config-file {CONFIG} --eval-only MODEL.WEIGHTS {weights} "
        f"{test} OUTPUT_DIR {out}/evaluation_{name}",
        shown=0,
    )
    written = next((output / f"evaluation_{name}").glob("inference/*/crack_metrics.json"))
    found: Metrics = json.loads(written.read_bytes())["metrics"]
    print(f"  pixel F1 {found['f1']:.3f}, coverage error {found['coverage_mae']:.2f} points")
    return found


def data_set(output: Path, part: str) -> str:
    """The value of DATASETS.TRAIN or TEST that names a part of the split, for a shell."""
    return shlex.quote(f"({json.dumps(f'{output}/crack_{part}.json', ensure_ascii=False)},)")


def fine_tune(shell: Shell, args: argparse.Namespace, out: str, test: str) -> str:
    """Train the shipped model on, calibrate it, and return the checkpoint."""
    # A few dozen iterations: a small rate, a short warm-up, small batches, an average that keeps
    # up, and no evaluation, which comes after calibration.
    steps = args.iterations
    shell.run(
        "Fine-tune it on these photos",
        f"python tools/train_net.py --config-file {CONFIG} MODEL.WEIGHTS {SHIPPED} "
        f"DATASETS.TRAIN {data_set(args.output, 'train')} DATASETS.TEST '()' "
        f"SOLVER.MAX_ITER {steps} SOLVER.BASE_LR 0.0001 SOLVER.WARMUP_ITERS {steps // 8} "
        f"SOLVER.IMS_PER_BATCH 4 SOLVER.CHECKPOINT_PERIOD {steps} CRACK.EMA_DECAY 0.9 "
        f"CRACK.AUG.CROP_SIZE 256 OUTPUT_DIR {out}/training",
    )
    tuned = f"{out}/training/model_final.pth"
    shell.run(
        "Choose its thresholds, and an interval for the percentage",
        f"python tools/calibrate.py --config-file {CONFIG} --weights {tuned} {test}",
        required=False,  # it takes photos without cracks, which yours may not have
    )
    return tuned


def serve_and_post(shell: Shell, out: str, weights: str, photo: Path) -> str:
    """Post a photo to a server with a model, by curl, and return what the answer's headers say."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = f"python -m serve --weights {weights} --port {port}"
    server = shell.start("Serve the tuned model", command)
    try:
        shell.run(
            "Wait until its model is loaded",
            "curl -sS --retry 120 --retry-delay 1 --retry-connrefused --fail-with-body "
            f"localhost:{port}/readyz",
        )
        # Within quotes curl takes a comma or semicolon as part of the name.
        name = str(photo).replace("\\", "\\\\").replace('"', '\\"')
        field = f'image=@"{name}"'
        shell.run(
            "Post a photo to it",
            f"curl -sS -F {shlex.quote(field)} localhost:{port}/predict "
            f"-o {out}/answer.png -D {out}/answer_headers.txt",
        )
    finally:
        server.terminate()
        server.wait()
    return shell.run("What it says", f"grep -i ^x-crack {out}/answer_headers.txt", shown=5)


def write_page(
    args: argparse.Namespace, truth: dict[str, float], metrics: dict[str, Metrics], headers: str
) -> None:
    """Write index.html, which shows what the steps have left in the folder."""
    output: Path = args.output
    photos = {}
    for model in metrics:
        images = json.loads((output / model / "predictions.json").read_bytes())["images"]
        photos[model] = {Path(image["file_name"]).name: image for image in images}
    page = Path(__file__).with_name("demo.html").read_text("utf-8")
    calibration = output / "training" / "model_final.calibration.json"
    html = jinja2.Template(page, autoescape=True, trim_blocks=True).render(
        photos=photos,
        metrics=metrics,
        truth=truth,
        iterations=args.iterations,
        drawn=not args.images,
        calibration=json.loads(calibration.read_bytes()) if calibration.is_file() else None,
        benchmark=(output / "benchmark" / "benchmark.md").read_text("utf-8"),
        headers=headers,
    )
    write_bytes(output / "index.html", html.encode())


if __name__ == "__main__":
    run_tool(main)
