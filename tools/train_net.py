"""Train or evaluate a crack model: one config file, and KEY VALUE pairs that override it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Threads that wait for each other must not spin on cores that another process needs. OpenMP reads
# it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron2.engine import default_argument_parser

from crack_data.errors import run_tool
from crack_data.training.launch import start


def main() -> None:
    """Parse the command line; --help shows it."""
    parser = default_argument_parser()
    parser.add_argument("--image-root", default="", metavar="DIR", help="CRACK.IMAGE_ROOT")
    args = parser.parse_args()
    if args.image_root:
        args.opts += ["CRACK.IMAGE_ROOT", args.image_root]
    start(args)


if __name__ == "__main__":
    run_tool(main)
