#!/usr/bin/env python
"""Find the cracks on photos: masks, percentages, lengths and widths."""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.config import load_predict_config
from crack_data.errors import CrackError, run_tool
from crack_data.inference.batch import run_prediction
from crack_data.inference.labels_out import FORMATS
from crack_data.inference.outputs import OutputOptions
from crack_data.storage import count_kinds, find_photos, full_path


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Paths may be local or any that fsspec reads, such as s3://bucket/photos. Other "
        "config keys follow as KEY VALUE pairs, such as MODEL.DEVICE cuda.",
    )
    add = parser.add_argument
    add("--input", nargs="+", required=True, metavar="PHOTO|DIR|GLOB", help="photos to predict")
    add("--output", required=True, metavar="DIR", help="folder for the results")
    add("--config-file", metavar="YAML", help="the model's config (default: the shipped model)")
    add("--weights", metavar="PTH", help="checkpoint (default: the config's MODEL.WEIGHTS)")
    add("--threshold", type=float, metavar="P", help="a pixel is crack above P (under .3 as at .3)")
    add("--tile", default="auto", metavar="auto|off|SIZE", help="cut large photos into tiles")
    add("--mm-per-px", type=float, metavar="X", help="scale of the photos: adds lengths in mm")
    add("--boxes", action="store_true", help="draw each crack's box on the overlay")
    add("--scores", action="store_true", help="write each crack's score on the overlay")
    add("--geojson", action="store_true", help="write the cracks' centrelines, on the map if known")
    add("--labels", choices=FORMATS, help="write labels to correct for CVAT, labelme, ...")
    add("--sort-by", choices=("name", "uncertainty"), default="name", help="order of the tables")
    add("--resume", action="store_true", help="skip photos that are complete in the output")
    add("--engine", choices=("plain", "ray"), default="plain", help="this process, or Ray Data")
    add("--address", metavar="A", help="Ray cluster, such as auto (default: one started here)")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys to change")
    return parser.parse_args()


def main() -> int:
    """Predict; 1 where a photo could not be used."""
    given = parse_arguments()
    paths_of = {"--input": given.input, "--output": [given.output]}
    for flag, paths in (paths_of | {"--config-file": [given.config_file]}).items():
        if "" in paths:  # which would be the working folder, or the shipped config
            raise CrackError(f"{flag} is empty, perhaps by a variable that is not set; name a path")
    if given.mm_per_px is not None and not 1e-6 <= given.mm_per_px <= 1e6:
        raise CrackError(f"--mm-per-px lies between 1e-6 and 1e6, not {given.mm_per_px}")
    if given.threshold is not None and not 0 <= given.threshold <= 1:
        raise CrackError(f"--threshold lies between 0 and 1; {given.threshold} does not")
    if given.address and given.engine != "ray":
        raise CrackError("--address names a Ray cluster; give --engine ray with it")
    cfg = load_predict_config(given.config_file, given.weights, given.overrides)
    if given.tile != "auto":
        size = int(given.tile) if given.tile.isdecimal() else 0
        if size < 64 and given.tile != "off":
            raise CrackError(f"--tile is auto, off or a size of at least 64 px, not {given.tile}")
        keys = cfg.CRACK.INFERENCE
        keys.TILE_SIZE, keys.TILE_OVERLAP = size, min(keys.TILE_OVERLAP, size // 4)
    unread: Counter[str] = Counter()
    photos = find_photos(*given.input, output=given.output, unread=unread)
    if unread:
        print(f"not predicted: {count_kinds(unread)}", file=sys.stderr)
    options = OutputOptions(
        full_path(given.output), given.boxes, given.scores, given.mm_per_px, given.threshold,
        given.geojson, given.labels,
    )  # fmt: skip
    address = (given.address or "local") if given.engine == "ray" else None
    by_uncertainty = given.sort_by == "uncertainty"
    return bool(run_prediction(cfg, photos, options, given.resume, address, by_uncertainty))


if __name__ == "__main__":
    run_tool(main)
