"""Train or evaluate a crack model: one config file, and KEY VALUE pairs that override it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.errors import run_tool
from crack_data.training.launch import parse_args, start

if __name__ == "__main__":
    run_tool(lambda: start(parse_args()))
