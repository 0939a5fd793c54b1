#!/usr/bin/env python
"""Measure the converter: throughput beside a plain script and beside decoding alone; memory.

``python benchmarks/converter.py speed --pairs 600`` is the short form.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import psutil

from crack_data.convert.pairing import Pair, pair_files
from crack_data.convert.parallel import WorkerPool, usable_cores
from crack_data.errors import CrackError, run_tool

REPO = Path(__file__).resolve().parent.parent
COMMANDS = {
    "plain": ["-m", "benchmarks.plain_converter"],
    "ours": [str(REPO / "tools" / "convert_to_coco.py")],
}
SETS = ("deepcrack_train", "crackseg448", "cfd_train", "crack500_train")
# A set is repeated until it has so many pairs, beside which the start of a command counts little.
PAIRS = 3000


def speed(data: Path) -> None:
    """Pairs a second of three runs, best of each kept: plain script, converter, decoding alone."""
    for name in SETS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _repeat(data / name, folder)
            _print_speed(name, folder)


def _repeat(source: Path, folder: Path) -> None:
    pairs = pair_files(source / "images", source / "masks").pairs
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(-(-PAIRS // len(pairs))):
        for pair in pairs:
            for part, path in (("images", Path(pair.photo)), ("masks", Path(pair.mask))):
                (folder / part / f"{number}_{path.name}").symlink_to(path.resolve())


def _print_speed(name: str, folder: Path) -> None:
    pairs = pair_files(folder / "images", folder / "masks").pairs
    times: dict[str, list[float]] = {"plain": [], "ours": [], "decoding": []}
    for _ in range(3):  # in turn, so that all see the same machine
        times["plain"].append(_run("plain", folder))
        times["ours"].append(_run("ours", folder))
        times["decoding"].append(_decode_all(pairs))
    _compare(name, folder)
    rate = {kind: len(pairs) / min(seconds) for kind, seconds in times.items()}
    print(
        f"{name}: {len(pairs)} pairs; pairs a second: plain script {rate['plain']:.0f}, "
        f"converter {rate['ours']:.0f}, decoding alone {rate['decoding']:.0f}; the converter is "
        f"{rate['ours'] / rate['plain']:.1f} x the plain script, "
        f"{rate['ours'] / rate['decoding']:.2f} of decoding on {usable_cores()} cores "
        f"(load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def _run(kind: str, folder: Path) -> float:
    """Seconds of a whole command, its start included."""
    command = [sys.executable, *COMMANDS[kind], "--images", str(folder / "images")]
    command += ["--masks", str(folder / "masks"), "--output", str(folder / f"{kind}.json")]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.monotonic()
    subprocess.run(command, check=True, cwd=REPO, **quiet)
    return time.monotonic() - start


def _decode_all(pairs: list[Pair]) -> float:
    """Seconds in which all cores read all files with cv2.imread and do nothing else."""
    start = time.monotonic()
    with WorkerPool(usable_cores()) as pool:
        for _ in pool.ordered_map(_decode, pairs):
            pass
    return time.monotonic() - start


def _decode(pair: Pair) -> None:
    cv2.imread(pair.photo)
    cv2.imread(pair.masks[0], cv2.IMREAD_GRAYSCALE)


def _compare(name: str, folder: Path) -> None:
    """See that both commands found the same cracks."""
    plain, ours = (_cracks(folder / f"{kind}.json") for kind in COMMANDS)
    if plain != ours:
        raise CrackError(f"{name}: the plain script gives other annotations")


def _cracks(path: Path) -> list[tuple[Any, ...]]:
    content = json.loads(path.read_bytes())
    photo = {image["id"]: image["file_name"] for image in content["images"]}
    return sorted(
        (photo[each["image_id"]], each["bbox"], each["area"], each["segmentation"]["counts"])
        for each in content["annotations"]
    )


def memory() -> None:
    """Peak memory of the command with all its workers on generated sets."""
    for size in (5000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            _generate(Path(folder), size)
            print(f"{size} pairs: {_peak_mb(Path(folder)):.0f} MB", flush=True)


def _generate(folder: Path, size: int) -> None:
    """Small photos under many names; five instances each."""
    for part in ("images", "masks"):
        (folder / part).mkdir()
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), np.uint8)
    mask[6::13, 4:60] = mask[7::13, 4:60] = 255
    photo = rng.integers(90, 180, mask.shape, np.uint8)
    data = [
        (suffix, cv2.imencode(suffix, pixels)[1].tobytes())
        for suffix, pixels in ((".jpg", photo), (".png", mask))
    ]
    for number in range(size):
        for part, (suffix, content) in zip(("images", "masks"), data, strict=True):
            (folder / part / f"photo_{number:06d}{suffix}").write_bytes(content)


def _peak_mb(folder: Path) -> float:
    command = [sys.executable, *COMMANDS["ours"], "--workers", "2"]
    command += ["--images", str(folder / "images"), "--masks", str(folder / "masks")]
    command += ["--output", str(folder / "crack.json"), "--split", "train=0.8,val=0.2"]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tool:
        while tool.poll() is None:
            peak = max(peak, _tree_mb(tool.pid))
            time.sleep(0.1)
    if tool.returncode:
        raise CrackError(f"the conversion ended with code {tool.returncode}")
    return peak


def _tree_mb(pid: int) -> float:
    """Memory of a process and its children; shared pages count once (PSS)."""
    total = 0
    try:
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_full_info().pss
    except psutil.Error:
        return 0.0  # one ended meanwhile
    return total / 2**20


def main() -> int:
    """Run the chosen measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help="speed, memory; default: both")
    default = os.environ.get("CRACK_SHARED", REPO.parent / "shared")
    parser.add_argument("--shared", type=Path, default=default, help="folder that holds data/")
    args = parser.parse_args()
    measurements: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(args.shared / "data"),
        "memory": memory,
    }
    for name in args.what or measurements:
        if name not in measurements:
            raise CrackError(f"no measurement {name}; there are {', '.join(measurements)}")
        print(f"== {name}")
        measurements[name]()
    return 0


if __name__ == "__main__":
    run_tool(main)
