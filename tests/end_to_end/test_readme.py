"""Every command in the README, run in its order in one folder."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import yaml

from ..conftest import REPO
from ..markdown import commands
from .workplace import Workplace

COMMANDS = commands(REPO / "README.md")
# Making the environment that these tests run in; see test_install.py. The demo has its own test.
ELSEWHERE = ("make ", "source ", "conda ")
SERVER = "python -m serve"
HERE = [line for line in COMMANDS if not line.startswith((*ELSEWHERE, SERVER, "curl "))]
CURLS = [line for line in COMMANDS if line.startswith("curl ")]
SERVERS = [line for line in COMMANDS if line.startswith(SERVER)]


@pytest.fixture(scope="module")
def workplace(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With photos and masks as the README has them, and the two sets that it trains together."""
    folder = tmp_path_factory.mktemp("readme")
    place = Workplace(folder, repo)
    place.run("python tools/make_synthetic.py --output drawn --count 16 --size 256x192")
    (folder / "drawn" / "images").rename(folder / "photos")
    (folder / "drawn" / "masks").rename(folder / "masks")
    photo = cv2.imread(str(next((folder / "photos").iterdir())))
    cv2.imwrite(str(folder / "photo.jpg"), photo)
    for name in ("bridge", "road"):
        place.run(
            "python tools/convert_to_coco.py --images photos --masks masks "
            f"--output {name}.json --split train=0.5,val=0.5"
        )
    return place


@pytest.fixture(scope="module")
def server(workplace: Workplace) -> Iterator[subprocess.Popen[bytes]]:
    """The README's server, with the weights that its training command wrote."""
    process = workplace.serve(SERVERS[0])
    yield process
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize("command", HERE)
def test_command(workplace: Workplace, command: str) -> None:
    workplace.run(command)


def test_what_the_commands_wrote(workplace: Workplace) -> None:
    folder = workplace.folder
    for path in (
        "output/report/index.html",
        "output/mine/model_best.pth",
        "output/mine/curves.png",
        "output/mine/model_best.calibration.json",
        "drafts/labels/coco.json",
        "datasets/labelled/labelled_train.json",
    ):
        assert (folder / path).is_file()
    assert list((folder / "output/mine/evaluated/inference").glob("*/crack_metrics.json"))
    trained = yaml.safe_load((folder / "output/mine/config.yaml").read_text())
    assert trained["MODEL"]["WEIGHTS"] == "checkpoints/crack_mobilenet.pth"  # not the evaluation's
    assert list((folder / "lines").rglob("*_lines.geojson"))
    document = json.loads((folder / "predictions" / "predictions.json").read_text())
    assert len(document["images"]) == len(list((folder / "photos").iterdir()))
    for image in document["images"]:
        assert image["percent_masked"] + image["percent_unmasked"] == pytest.approx(100)


@pytest.mark.parametrize("command", CURLS)
def test_curl(workplace: Workplace, server: subprocess.Popen[bytes], command: str) -> None:
    done = workplace.run(command)
    words = shlex.split(command)
    if "-o" not in words:
        answer = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
        assert answer["percent_masked"] + answer["percent_unmasked"] == pytest.approx(100)
        return
    photo = cv2.imread(str(workplace.folder / "photo.jpg"))
    picture = cv2.imread(str(workplace.folder / words[words.index("-o") + 1]))
    assert picture.shape == photo.shape
    if "-D" in words:
        headers = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
        masked = float(headers["X-Crack-Percent-Masked"])
        unmasked = float(headers["X-Crack-Percent-Unmasked"])
        assert masked + unmasked == pytest.approx(100, abs=0.01)
        assert int(headers["X-Crack-Count"]) >= 0
