#!/usr/bin/env python
"""Draw photos as annotated, crops as the training loader augments them, or predictions.

Annotations and crops come from DATASETS.TRAIN, predictions from DATASETS.TEST, beside
the ground truth on one contact sheet per set.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.config import load_config, load_predict_config
from crack_data.errors import CrackError, run_tool
from crack_data.visualization import SOURCES, visualize


def main() -> None:
    """Draw the pictures and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE.yaml")
    add("--source", required=True, choices=SOURCES)
    add("--output", default=Path("output/visualized"), type=Path, metavar="DIR")
    add("--weights", metavar="PTH", help="of predictions (default: the config's MODEL.WEIGHTS)")
    add("--count", default=24, type=int, metavar="N", help="photos or crops (24)")
    add("--worst", action="store_true", help="predictions with the lowest F1 only")
    add("opts", nargs="*", metavar="KEY VALUE", help="override config keys")
    args = parser.parse_args()
    if args.count < 1:
        raise CrackError("--count must be 1 or more")
    if args.source == "prediction":
        cfg = load_predict_config(args.config_file, args.weights, args.opts)
    elif args.worst or args.weights:
        raise CrackError("--worst and --weights are for --source prediction; leave them out")
    else:
        cfg = load_config(args.config_file, args.opts)
    files = visualize(cfg, args.source, args.output, args.count, args.worst)
    print(f"{len(files)} pictures in {args.output}")


if __name__ == "__main__":
    run_tool(main)
