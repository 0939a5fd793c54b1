#!/usr/bin/env python
"""Convert photos and combined crack masks to COCO JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.converter import ConversionOptions, ConversionResult, convert
from crack_data.errors import run_tool
from crack_data.masks import preset
from crack_data.splits import SplitOptions, parse_shares


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--masks", required=True, type=Path, metavar="DIR")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.json")
    parser.add_argument("--preset", default="thin", choices=("thin", "classic"))
    parser.add_argument("--split", default="", metavar="train=0.8,val=0.2")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--group-by", default="", metavar="REGEX")
    parser.add_argument("--workers", default=0, type=int, metavar="N")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    options = ConversionOptions(
        images=args.images,
        masks=args.masks,
        output=args.output,
        cleaning=preset(args.preset),
        splits=SplitOptions(parse_shares(args.split), args.seed, args.group_by),
        workers=args.workers,
    )
    print_result(convert(options))
    return 0


def print_result(result: ConversionResult) -> None:
    for split, path in result.outputs.items():
        used = [r for r in result.records if r.split == split and not (r.error or r.left_out)]
        print(f"{path}: {len(used)} photos, {sum(r.instances for r in used)} instances")


if __name__ == "__main__":
    run_tool(main)
