"""The commands of docs/several_machines.md that need no GPU, with this machine for both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..conftest import REPO
from ..markdown import commands
from .workplace import Workplace

ON_CPU = [line for line in commands(REPO / "docs/several_machines.md") if "cpu" in line]
ONE_MACHINE = [line for line in ON_CPU if "--num-machines" not in line]
TWO_MACHINES = [line for line in ON_CPU if "--num-machines" in line]

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def workplace(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With a converted set where the configs look for it."""
    place = Workplace(tmp_path_factory.mktemp("machines"), repo)
    place.run("python tools/make_synthetic.py --output drawn --count 12 --size 256x192")
    place.run(
        "python tools/convert_to_coco.py --images drawn/images --masks drawn/masks "
        "--output datasets/crack/crack.json --split train=0.5,val=0.5"
    )
    return place


@pytest.mark.parametrize("command", ONE_MACHINE)
def test_processes_of_one_machine(workplace: Workplace, command: str) -> None:
    done = workplace.run(_offline(command, "one"))
    assert "Rank of current process: 0. World size: 2" in done.stdout
    assert (workplace.folder / "one" / "model_final.pth").is_file()


def test_two_machines(workplace: Workplace) -> None:
    here = [line.replace("machine0:29500", f"127.0.0.1:{workplace.port}") for line in TWO_MACHINES]
    with ThreadPoolExecutor(2) as machines:
        done = list(machines.map(lambda line: workplace.run(_offline(line, "two")), here))
    assert "Rank of current process: 0. World size: 2" in done[0].stdout
    assert (workplace.folder / "two" / "model_final.pth").is_file()


def _offline(command: str, output: str) -> str:
    return f"{command} MODEL.BACKBONE.WEIGHTS '' OUTPUT_DIR {output}"
