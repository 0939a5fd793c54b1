"""Post thousands of photos to a server of its own and compare with what tools/predict.py says.

Exits with 1 if an answer is lost or differs, or if the server's memory grows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server.server_process import ServerProcess
from benchmarks.server.soak import expected_answers, soak
from crack_data.errors import CrackError, run_tool


def main() -> int:
    """Run it and print the figures; flags that are not listed go to the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--count", type=int, default=2000, help="photos to post, over and over")
    parser.add_argument("--growth", type=float, default=5, help="memory growth allowed, percent")
    parser.add_argument("--config-file", default="", help="as for tools/predict.py and the server")
    parser.add_argument("--weights", default="", help="as for tools/predict.py and the server")
    arguments, flags = parser.parse_known_args()
    model = []
    for name in ("config_file", "weights"):
        if value := getattr(arguments, name):
            model += ["--" + name.replace("_", "-"), value]
    with tempfile.TemporaryDirectory() as folder:
        predict_to(folder, arguments.photos, model)
        expected = expected_answers(Path(folder, "predictions.json"))
    with ServerProcess([*model, *flags]) as server:
        print(f"ready after {server.wait_ready():.1f} s, {server.resident_mb():.0f} MB resident")
        result = soak(server, arguments.photos, expected, arguments.count)
    print("\n".join(result.lines()))
    return 1 if result.failures or result.growth_percent > arguments.growth else 0


def predict_to(folder: str, photos: Path, model: list[str]) -> None:
    """Run tools/predict.py on the photos.

    Raises:
        CrackError: it failed.
    """
    tool = Path(__file__).with_name("predict.py")
    command = [sys.executable, str(tool), "--input", str(photos), "--output", folder, *model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CrackError(f"tools/predict.py failed: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    run_tool(main)
