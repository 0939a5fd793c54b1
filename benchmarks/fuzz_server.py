"""Send bad bodies to a server of its own; exit 1 if it answers one with a 5xx, dies, or grows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server.fuzz import fuzz
from benchmarks.server.server_process import ServerProcess
from crack_data.errors import run_tool


def main() -> int:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="number of bodies")
    parser.add_argument("--first", type=int, default=0, help="number of the first body")
    parser.add_argument("--growth", type=float, default=1, help="percent that known bodies may add")
    arguments, server_flags = parser.parse_known_args()
    # How long a photo waits is another trial's business.
    with ServerProcess(["--deadline-s", "600", *server_flags]) as server:
        server.wait_ready()
        result = fuzz(server, arguments.count, arguments.first)
        print("\n".join(result.lines()))
        grown = result.growth_percent > arguments.growth
        return 1 if result.failures or grown or server.stop() else 0


if __name__ == "__main__":
    run_tool(main)
