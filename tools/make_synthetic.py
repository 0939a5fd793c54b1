#!/usr/bin/env python
"""Draw photos of cracked ground, with masks, into FOLDER/images and FOLDER/masks."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.errors import CrackError, run_tool
from crack_data.synthetic import write_photos


def main() -> None:
    """Draw the photos."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="FOLDER")
    add("--count", default=100, type=int, metavar="N", help="photos (100)")
    add("--size", default="480x320", metavar="WIDTHxHEIGHT", help="px (480x320)")
    add("--seed", default=0, type=int, help="the same seed draws the same photos")
    add("--noise", action="store_true", help="masks as faulty as real ones")
    coco = "also write FOLDER/instances.json: COCO annotations, one for each crack"
    add("--instances", action="store_true", help=coco)
    args = parser.parse_args()
    if args.count < 1 or args.seed < 0:
        raise CrackError("--count must be 1 or more, --seed 0 or more")
    width, _, height = args.size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise CrackError(f"--size {args.size} is not WIDTHxHEIGHT, such as 480x320")
    size = int(height), int(width)
    write_photos(args.output, args.count, args.seed, *size, args.noise, args.instances)
    print(f"{args.count} photos in {args.output / 'images'}, masks in {args.output / 'masks'}")


if __name__ == "__main__":
    run_tool(main)
