"""``python -m benchmarks.server.soak --photos FOLDER``: thousands of photos to a server of its own.

Each answer is compared with what tools/predict.py says. Exits with 1 if an answer is lost or
differs, or if the server's memory grows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from tqdm import tqdm

from crack_data.errors import CrackError, run_tool

from .process import ServerProcess

_CLIENTS = 4


@dataclass
class SoakResult:
    """What came of it.

    Attributes:
        answers: photos answered as expected.
        failures: a sentence for each lost or different answer.
        memory_mb: resident memory of the server after a tenth of the photos, and after the last.
        seconds: from the first photo to the last.
        times_ms: of each answer, from sending the photo.
    """

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    memory_mb: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    times_ms: list[float] = field(default_factory=list)

    @property
    def growth_percent(self) -> float:
        """Change of the resident memory after the first tenth of the photos."""
        return 100 * (self.memory_mb[1] / self.memory_mb[0] - 1)

    def lines(self) -> list[str]:
        """The figures as text."""
        return [
            f"{self.answers} photos answered as tools/predict.py does, "
            f"{self.answers / self.seconds:.1f} a second by {_CLIENTS} clients",
            f"time of an answer: median {statistics.median(self.times_ms):.0f} ms, 99 of 100 under "
            f"{statistics.quantiles(self.times_ms, n=100)[98]:.0f} ms",
            f"resident memory: {self.memory_mb[0]:.0f} MB after a tenth, "
            f"{self.memory_mb[1]:.0f} MB after the last ({self.growth_percent:+.1f} %)",
            f"failures: {len(self.failures)}",
            *self.failures[:20],
        ]


def expected_answers(predictions_json: Path) -> dict[str, dict[str, Any]]:
    """What the server should answer for each photo, by file name, from ``predictions.json``."""
    document = json.loads(predictions_json.read_text())
    answers: dict[int, dict[str, Any]] = {
        image["id"]: {**image, "file_name": Path(image["file_name"]).name, "instances": []}
        for image in document["images"]
    }
    for annotation in document["annotations"]:
        answers[annotation["image_id"]]["instances"].append(annotation)
    return {answer["file_name"]: answer for answer in answers.values()}


def soak(
    server: ServerProcess, photos: Path, expected: dict[str, dict[str, Any]], count: int
) -> SoakResult:
    """Post ``count`` photos by a few clients at once, over and over the folder.

    Args:
        server: ready.
        photos: a folder of photos.
        expected: the answer to each, by file name.
        count: at least 10.
    """
    result = SoakResult()
    endless = itertools.cycle(sorted(photos / name for name in expected))
    order = list(itertools.islice(endless, count))
    started = time.monotonic()
    tenth = count // 10
    early = _post_all(server, order[:tenth], expected, result)
    late = _post_all(server, order[tenth:], expected, result)
    result.seconds = time.monotonic() - started
    result.memory_mb = (early, late)
    return result


def _post_all(
    server: ServerProcess,
    photos: Iterable[Path],
    expected: dict[str, dict[str, Any]],
    result: SoakResult,
) -> float:
    def post(photo: Path) -> str:
        began = time.monotonic()
        difference = _difference(server.url, photo, expected[photo.name])
        result.times_ms.append(1000 * (time.monotonic() - began))
        return difference

    photos = list(photos)
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for difference in tqdm(pool.map(post, photos), total=len(photos), disable=None):
            if difference:
                result.failures.append(difference)
            else:
                result.answers += 1
    return server.resident_mb()


def _difference(url: str, photo: Path, expected: dict[str, Any]) -> str:
    """Post a photo; return what is wrong with the answer, or nothing."""
    files = {"image": (photo.name, photo.read_bytes())}
    try:
        response = requests.post(url + "/predict?format=json", files=files, timeout=600)
    except requests.RequestException as error:
        return f"{photo.name}: {error}"
    if response.status_code != 200:
        return f"{photo.name}: {response.status_code} {response.text[:200]}"
    answer = response.json()
    found, wanted = answer.pop("instances"), expected["instances"]
    for key, value in answer.items():
        if value != expected[key]:
            return f"{photo.name}: {key} is {value}, not {expected[key]}"
    if len(found) != len(wanted):
        return f"{photo.name}: {len(found)} instances, not {len(wanted)}"
    for instance, annotation in zip(found, wanted, strict=True):
        for key, value in instance.items():
            if annotation[key] != value:
                return f"{photo.name}: an instance's {key} is {value}, not {annotation[key]}"
    return ""


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
        _predict_to(folder, arguments.photos, model)
        expected = expected_answers(Path(folder, "predictions.json"))
    with ServerProcess([*model, *flags]) as server:
        print(f"ready after {server.wait_ready():.1f} s, {server.resident_mb():.0f} MB resident")
        result = soak(server, arguments.photos, expected, arguments.count)
    print("\n".join(result.lines()))
    return 1 if result.failures or result.growth_percent > arguments.growth else 0


def _predict_to(folder: str, photos: Path, model: list[str]) -> None:
    tool = Path(__file__).parents[2] / "tools" / "predict.py"
    command = [sys.executable, str(tool), "--input", str(photos), "--output", folder, *model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CrackError(f"tools/predict.py failed: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    run_tool(main)
