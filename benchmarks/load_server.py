"""Compare a server under load with the bare predictor in a loop, and print the figures."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server.load import BarePredictor, put_under_load
from benchmarks.server.server_process import ServerProcess
from crack_data.errors import run_tool


def main() -> None:
    """Measure and print; flags that are not listed go to the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photos")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="bare and loaded take turns")
    parser.add_argument("--query", default="?format=json", help="of the URL, or ''")
    arguments, flags = parser.parse_known_args()
    photos, seconds = arguments.photos, arguments.seconds
    with ServerProcess(flags) as server:
        print(f"ready after {server.wait_ready():.1f} s, {server.resident_mb():.0f} MB resident")
        bare = BarePredictor(photos, flags)
        bare_rates, loaded_rates = [], []
        for _ in range(arguments.rounds):
            bare_rates.append(bare.per_second(seconds))
            figures = put_under_load(server, photos, arguments.query, seconds)
            loaded_rates.append(figures.per_second)
            print(f"bare {bare_rates[-1]:.1f} photos/s; 4 clients: {figures.line()}")
        bare.stop()
        rate = statistics.median(loaded_rates)
        share = 100 * rate / statistics.median(bare_rates)
        print(f"under load {share:.0f} % of the bare predictor's rate (medians)")
        calm = put_under_load(server, photos, arguments.query, 2 * seconds, 0.8 * rate)
        print(f"at 80 % of that load: {calm.line()}")
        print(f"{server.resident_mb():.0f} MB resident at the end")


if __name__ == "__main__":
    run_tool(main)
