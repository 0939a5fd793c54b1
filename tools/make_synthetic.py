#!/usr/bin/env python
"""Draw photos of cracked ground, with masks, into FOLDER/images and FOLDER/masks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.errors import CrackError, run_tool
from crack_data.synthetic import write_photos


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--count", default=100, type=int, metavar="N", help="photos (100)")
    parser.add_argument("--size", default="480x320", metavar="WIDTHxHEIGHT", help="px (480x320)")
    parser.add_argument("--seed", default=0, type=int, help="the same seed draws the same photos")
    parser.add_argument("--noise", action="store_true", help="masks as faulty as real ones")
    parser.add_argument(
        "--instances",
        action="store_true",
        help="also write FOLDER/instances.json: COCO annotations, one for each crack",
    )
    return parser.parse_args()


def main() -> None:
    """Draw the photos."""
    args = parse_args()
    if args.count < 1 or args.seed < 0:
        raise CrackError("--count must be 1 or more, --seed 0 or more")
    width, _, height = args.size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise CrackError(f"--size {args.size} is not WIDTHxHEIGHT, such as 480x320")
    size = int(height), int(width)
    write_photos(args.output, args.count, args.seed, *size, args.noise, args.instances)
    print(f"{args.count} photos in {args.output / 'images'}, masks in {args.output / 'masks'}")


if __name__ == "__main__":
    run_tool(main)
