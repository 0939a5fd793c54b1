#!/usr/bin/env python
"""Draw what training sees: photos as annotated, or crops as the training loader augments them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.config import load_config
from crack_data.errors import CrackError, run_tool
from crack_data.visualization import SOURCES, visualize


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, metavar="FILE.yaml")
    parser.add_argument("--source", required=True, choices=SOURCES)
    parser.add_argument("--output", default=Path("output/visualized"), type=Path, metavar="DIR")
    parser.add_argument("--count", default=24, type=int, metavar="N", help="pictures (24)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override config keys")
    return parser.parse_args()


def main() -> int:
    """Draw the pictures and say where they are."""
    args = parse_args()
    if args.count < 1:
        raise CrackError("--count must be 1 or more")
    cfg = load_config(args.config_file, args.opts)
    files = visualize(cfg, args.source, args.output, args.count)
    print(f"{len(files)} pictures in {args.output}")
    return 0


if __name__ == "__main__":
    run_tool(main)
