#!/usr/bin/env python
"""Compare models: parameters, arithmetic, time by stage, memory and, on a data set, accuracy."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.backbones.accuracy import measure_accuracy
from benchmarks.backbones.machine import describe_machine
from benchmarks.backbones.measure import measure
from benchmarks.backbones.photos import drawn_photos
from benchmarks.backbones.report import write_report
from benchmarks.backbones.rows import default_rows, rows_of
from benchmarks.backbones.tiling import measure_tiling
from benchmarks.backbones.training import measure_training
from crack_data.errors import CrackError, run_tool
from crack_data.storage import find_photos


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--config-file", action="append", metavar="YAML", help="a model (default: R101 and ours)")
    add("--images", metavar="DIR", help="photos to time on (default: three drawn ones, 480x320)")
    add("--max-images", type=int, default=5, metavar="N", help="at most this many of them")
    add("--rounds", type=int, default=5, metavar="N", help="how often each photo is timed")
    add("--dataset", nargs="+", metavar="NAME", help="also measure accuracy, such as on crack_val")
    add("--device", default="cpu", metavar="cpu|cuda")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the fast path")
    add("--train", metavar="NAME", help="also time training steps on this data set")
    add("--tiles", action="store_true", help="also time a photo of 4000x3000 px on the last model")
    add("--output", default="benchmark_out", metavar="DIR", help="folder for the report")
    given = parser.parse_args()
    if min(given.max_images, given.rounds) < 1:
        raise CrackError("--max-images and --rounds must be 1 or more")
    machine = describe_machine(given.device)
    if given.images:
        photos = [photo.path for photo in find_photos(given.images)][: given.max_images]
    else:
        photos = drawn_photos(Path(given.output) / "photos")[: given.max_images]
    where = given.device, given.precision, given.output
    rows = rows_of(given.config_file, *where) if given.config_file else default_rows(*where)
    extra = {"Training": measure_training(given.train)} if given.train else {}
    accuracy = measure_accuracy(rows, given.dataset) if given.dataset else {}
    results = measure(rows, photos, given.rounds)
    if given.tiles:
        extra[f"A large photo, {rows[-1].name}"] = measure_tiling(rows[-1], photos)
    sys.stdout.write(write_report(Path(given.output), results, machine, accuracy, extra))


if __name__ == "__main__":
    run_tool(main)
