"""The Ray engine on a real cluster of two workers on this machine, and on a real S3 server."""

from __future__ import annotations

import os
import posixpath
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from detectron2.config import CfgNode

from crack_data.inference.batch import run_prediction
from crack_data.inference.outputs import OutputOptions
from crack_data.storage import find_photos, list_files, read_bytes, write_bytes

from ..conftest import UNMEASURED
from .conftest import write_photo
from .runs import content

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket on a server that speaks S3, which the workers find by their environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir("cracks")
        yield "s3://cracks"
    server.stop()


@pytest.fixture(scope="module")
def cluster(s3: str) -> Iterator[None]:
    import ray

    repo = str(Path(__file__).resolve().parents[2])
    with pytest.MonkeyPatch.context() as patch:
        # Ray's workers stand back behind all other processes, and here the other tests are those.
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(
            num_cpus=2,
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": repo, "OMP_NUM_THREADS": "1"} | UNMEASURED},
        )
    yield
    ray.shutdown()


def run(cfg: CfgNode, photos: str | Path, folder: str | Path, ray_address: str | None) -> int:
    options = OutputOptions(str(folder))
    return run_prediction(cfg, find_photos(str(photos)), options, ray_address=ray_address)


@pytest.mark.usefixtures("cluster")
def test_the_fleet_writes_what_one_machine_writes(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Path(tiny_cfg.MODEL.WEIGHTS)
    monkeypatch.chdir(weights.parent)  # the workers have the folder in which the cluster began
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights.name
    assert run(cfg, photos, tmp_path / "fleet", "local") == 1  # one is no photo
    assert run(tiny_cfg, photos, tmp_path / "one", None) == 1
    assert content(tmp_path / "fleet") == content(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_photos_and_results_on_s3(tiny_cfg: CfgNode, photos: Path, tmp_path: Path, s3: str) -> None:
    for path in photos.iterdir():
        write_bytes(posixpath.join(s3, f"in/{path.name}"), path.read_bytes())
    assert run(tiny_cfg, f"{s3}/in", f"{s3}/fleet", "local") == 1
    assert run(tiny_cfg, f"{s3}/in", f"{s3}/one", None) == 1
    assert run(tiny_cfg, photos, tmp_path / "local", None) == 1
    expected = content(tmp_path / "local")
    assert list_files(f"{s3}/fleet") == list_files(f"{s3}/one")
    assert list_files(f"{s3}/one").keys() == expected.keys()
    for name, data in expected.items():
        fleet = read_bytes(posixpath.join(f"{s3}/fleet", name))
        assert fleet == read_bytes(posixpath.join(f"{s3}/one", name))
        assert fleet.replace(b"s3://cracks/in", bytes(photos)) == data, name


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_fleet_whose_worker_is_killed_writes_the_same(
    tiny_cfg: CfgNode, photos: Path, tmp_path: Path
) -> None:
    for number in range(3, 40):
        write_photo(photos / f"photo{number}.png", number)
    killed: list[int] = []
    watcher = threading.Thread(target=_kill_one, args=(tmp_path / "fleet", killed))
    watcher.start()
    assert run(tiny_cfg, photos, tmp_path / "fleet", "local") == 1  # one is no photo
    watcher.join()
    assert len(killed) == 1
    assert run(tiny_cfg, photos, tmp_path / "one", None) == 1
    assert content(tmp_path / "fleet") == content(tmp_path / "one")


def _kill_one(folder: Path, killed: list[int]) -> None:
    """Kill a worker as soon as the first photos are done."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if len(list(folder.glob("*_mask.png"))) >= 3:
            # Ours alone: below this process.
            workers = list(filter(_is_worker, psutil.Process().children(recursive=True)))
            if workers:
                os.kill(workers[0].pid, signal.SIGKILL)
                killed.append(workers[0].pid)
                return
        time.sleep(0.02)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "MapWorker" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False
