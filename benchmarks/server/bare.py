"""``python -m benchmarks.server.bare PHOTOS [server flags]``: the predictor alone, in a loop.

Prints "ready"; then for each line "SECONDS" on standard input predicts the photos, decoded
beforehand, for that long, and prints the photos per second.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from crack_data.photos import read_photo
from serve.model import build_predictor
from serve.settings import parse_settings


def main() -> None:
    """Run it."""
    images = [read_photo(path) for path in sorted(Path(sys.argv[1]).iterdir())]
    predict = build_predictor(parse_settings(sys.argv[2:]))
    print("ready", flush=True)
    endless = itertools.cycle(images)
    for line in sys.stdin:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < float(line):
            predict(next(endless))
            count += 1
        print(count / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
