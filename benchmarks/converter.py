#!/usr/bin/env python
"""Measure the converter: throughput beside a plain script and beside decoding alone; memory.

``python benchmarks/converter.py speed --pairs 300`` is the short form.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
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

from crack_data.convert.conversion import ordered_map, usable_cores
from crack_data.convert.pairing import PairRecord, pair_files
from crack_data.errors import CrackError, run_tool

REPO = Path(__file__).resolve().parent.parent
COMMANDS = {
    "plain": ["-m", "benchmarks.plain_converter"],
    "ours": [str(REPO / "tools" / "convert_to_coco.py")],
}
SETS = ("deepcrack_train", "crackseg448", "cfd_train", "crack500_train")


def speed(data: Path, pairs: int) -> None:
    """Pairs a second of three runs, the best kept: plain script, converter, decoding alone."""
    for name in SETS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _repeat(data / name, folder, pairs)
            _print_speed(name, folder)


def _repeat(source: Path, folder: Path, count: int) -> None:
    """Link a set's pairs again and again until there are ``count``."""
    pairs = pair_files(source / "images", source / "masks").records
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(count):
        pair = pairs[number % len(pairs)]
        for part, path in (("images", Path(pair.photo)), ("masks", Path(pair.masks[0]))):
            link = folder / part / f"{number // len(pairs)}_{path.name}"
            link.symlink_to(path.resolve())


def _print_speed(name: str, folder: Path) -> None:
    pairs = pair_files(folder / "images", folder / "masks").records
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in (*COMMANDS, "decoding")}
    for _ in range(3):  # in turn, so that all see the same machine
        for kind in COMMANDS:
            times[kind].append(_run(kind, folder))
        times["decoding"].append((_decode_all(pairs), 0.0))
    _compare(name, folder)
    wall = {kind: min(seconds for seconds, _ in runs) for kind, runs in times.items()}
    cpu = {kind: min(seconds for _, seconds in runs) for kind, runs in times.items()}
    rates = ", ".join(f"{kind} {len(pairs) / seconds:.0f}" for kind, seconds in wall.items())
    print(
        f"{name}: {len(pairs)} pairs; pairs a second: {rates}; the converter is "
        f"{wall['plain'] / wall['ours']:.1f} x the plain script on {usable_cores()} cores (load "
        f"{os.getloadavg()[0]:.1f}); processor time a pair: plain "
        f"{1000 * cpu['plain'] / len(pairs):.1f} ms, converter "
        f"{1000 * cpu['ours'] / len(pairs):.1f} ms",
        flush=True,
    )


def _run(kind: str, folder: Path) -> tuple[float, float]:
    """Seconds of a whole command, and processor seconds of all its processes."""
    command = [sys.executable, *COMMANDS[kind], "--images", str(folder / "images")]
    command += ["--masks", str(folder / "masks"), "--output", str(folder / f"{kind}.json")]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(command, check=True, cwd=REPO, **quiet)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _decode_all(pairs: list[PairRecord]) -> float:
    """Seconds in which all cores read all files with cv2.imread and do nothing else."""
    start = time.monotonic()
    for _ in ordered_map(_decode, pairs, usable_cores()):
        pass
    return time.monotonic() - start


def _decode(pair: PairRecord) -> None:
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
    parser.add_argument("--pairs", type=int, default=3000, help="pairs of each set (3000)")
    args = parser.parse_args()
    measurements: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(args.shared / "data", args.pairs),
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
