"""A small untrained model, real servers around it, and photos to post."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import requests

from serve import Settings, create_app
from serve.server import Server

from .stand_ins import predict_nothing

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from crack_data.inference.predictor import CrackPredictor
    from serve.worker import Predictor


@pytest.fixture(scope="session")
def model_flags(
    tiny_crack_config: Callable[..., CfgNode], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The flags of an untrained model, with a map so lively that it finds cracks."""
    import torch
    from detectron2.modeling import build_model

    folder = tmp_path_factory.mktemp("model")
    cfg = tiny_crack_config()
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.0
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.CRACK.INFERENCE.FAST = "off"  # to compile it takes longer than all the photos
    torch.manual_seed(0)
    model = build_model(cfg)
    last = [x for x in model.crack_map_head.modules() if isinstance(x, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.mul_(30)
        last.bias.fill_(-0.5)  # a few percent of the pixels: much to measure takes long
    torch.save({"model": model.state_dict()}, folder / "tiny.pth")
    (folder / "tiny.yaml").write_text(cfg.dump())
    return ["--config-file", str(folder / "tiny.yaml"), "--weights", str(folder / "tiny.pth")]


@pytest.fixture(scope="session")
def predictor(model_flags: list[str]) -> CrackPredictor:
    """The same model as the servers', in this process."""
    from crack_data.config import load_predict_config
    from crack_data.inference.predictor import CrackPredictor

    return CrackPredictor(load_predict_config(model_flags[1], model_flags[3]))


# Several models at work on few cores wait for each other's threads: one thread each is faster.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@contextmanager
def running_server(predictor: Predictor, **settings: Any) -> Iterator[str]:
    """A server on a real port in this process, around any predictor; gives its URL."""
    app = create_app(Settings(port=0, **settings), predictor)
    app.worker.start()
    server = Server(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.run()))
    thread.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        requests.get(url + "/healthz", timeout=9).raise_for_status()
        yield url
    finally:
        server.stopping.set()
        thread.join()
        app.worker.close()


@pytest.fixture(scope="session")
def url(predictor: CrackPredictor) -> Iterator[str]:
    """A server in this process around the real model, with time enough for a busy machine."""
    with running_server(predictor, deadline_s=600) as url:
        yield url


@pytest.fixture(scope="session")
def stand_in_url() -> Iterator[str]:
    """A server in this process around a model that finds nothing, taking 300 kB and 100,000 px."""
    with running_server(predict_nothing, max_bytes=300_000, max_pixels=100_000) as url:
        yield url


def check_problem(response: requests.Response, status: int, *words: str) -> dict[str, Any]:
    """The response is a problem document (RFC 9457) of this status, with these words."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    for word in words:
        assert word in problem["detail"]
    return problem


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A grey, noisy surface with a dark crack across it, BGR uint8 (96, 128, 3)."""
    noise = np.random.default_rng(0).normal(150, 12, (96, 128, 1))
    image = np.repeat(noise, 3, axis=2).clip(0, 255).astype(np.uint8)
    points = np.array([[4, 20], [50, 40], [80, 45], [124, 80]], np.int32)
    return cv2.polylines(image, [points], False, (30, 30, 30), 3)


@pytest.fixture(scope="session")
def png(photo: np.ndarray) -> bytes:
    """The photo as a PNG file."""
    return cv2.imencode(".png", photo)[1].tobytes()


@pytest.fixture(scope="session")
def photo_file(png: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photo on disk."""
    path = tmp_path_factory.mktemp("photos") / "wall.png"
    path.write_bytes(png)
    return path
