#!/usr/bin/env python
"""Draw photos as annotated, crops as the training loader augments them, or predictions.

Annotations and crops come from DATASETS.TRAIN, predictions from DATASETS.TEST, beside
the ground truth on one contact sheet per set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.config import load_config
from crack_data.errors import CrackError, run_tool
from crack_data.inference.defaults import load_predict_config
from crack_data.visualization import SOURCES, visualize


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, metavar="FILE.yaml")
    parser.add_argument("--source", required=True, choices=SOURCES)
    parser.add_argument("--output", default=Path("output/visualized"), type=Path, metavar="DIR")
    parser.add_argument("--count", default=24, type=int, metavar="N", help="photos or crops (24)")
    parser.add_argument("--worst", action="store_true", help="predictions with the lowest F1 only")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override config keys")
    return parser.parse_args()


def main() -> int:
    """Draw the pictures and say where they are."""
    args = parse_args()
    if args.count < 1:
        raise CrackError("--count must be 1 or more")
    load = load_predict_config if args.source == "prediction" else load_config
    cfg = load(args.config_file, overrides=args.opts)
    files = visualize(cfg, args.source, args.output, args.count, args.worst)
    print(f"{len(files)} pictures in {args.output}")
    return 0


if __name__ == "__main__":
    run_tool(main)
