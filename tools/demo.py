#!/usr/bin/env python
"""Run everything once, on drawn photos or on your own, printing each plain command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.demo.plan import DemoOptions
from crack_data.demo.run import run_demo
from crack_data.errors import run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path("demo_out"), metavar="DIR", help="folder for results")
    add("--images", type=Path, metavar="DIR", help="your photos (default: drawn ones)")
    add("--masks", type=Path, metavar="DIR", help="their masks")
    add("--photos", type=int, default=60, metavar="N", help="how many to draw")
    add("--iterations", type=int, default=40, metavar="N", help="of fine-tuning")
    add("--crop", type=int, default=320, metavar="PX", help="side of the training crops")
    add("--rounds", type=int, default=3, metavar="N", help="how often the benchmark times a photo")
    return parser.parse_args()


def main() -> None:
    """Run the demo and say where its page is."""
    print(f"\nOpen {run_demo(DemoOptions(**vars(parse_args())))}")


if __name__ == "__main__":
    run_tool(main)
