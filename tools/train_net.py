"""Train or evaluate a crack model: one config file, and KEY VALUE pairs that override it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Threads that wait for each other must not spin on cores that another process needs. OpenMP reads
# it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.errors import run_tool
from crack_data.training.launch import parse_args, start

if __name__ == "__main__":
    run_tool(lambda: start(parse_args()))
