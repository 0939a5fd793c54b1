from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode

from .drawn import draw_crack, line


@pytest.fixture(scope="session")
def tiny_cfg(
    tiny_crack_config: Callable[[], CfgNode], tmp_path_factory: pytest.TempPathFactory
) -> CfgNode:
    """An untrained model, saved as a checkpoint, with a map so lively that it finds cracks.

    In PyTorch: compiling it takes longer than all that the tests do with it.
    """
    from detectron2.modeling import build_model

    cfg = tiny_crack_config()
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.CRACK.INFERENCE.FAST = "off"
    cfg.MODEL.MOBILENETV2.WIDTH_MULT = 0.25
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD = 0.0
    torch.manual_seed(0)
    model = build_model(cfg)
    last = [x for x in model.crack_map_head.modules() if isinstance(x, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.mul_(30)
        last.bias.fill_(-1.6)  # a few percent of the pixels: much to measure takes long
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"model": model.state_dict()}, path)
    cfg.MODEL.WEIGHTS = str(path)
    return cfg


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three photos, one file that is none, and one that only claims to be."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        write_photo(folder / f"photo{number}.png", number)
    (folder / "notes.txt").write_text("not looked at")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


def write_photo(path: Path, seed: int) -> None:
    """A noisy grey surface with one dark line, 96 x 64 px."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(120, 200, (64, 96, 3), dtype=np.uint8)
    photo[draw_crack(line((48.2, 32.3), 80, 20 * seed + 3), 3, (64, 96))] = 30
    cv2.imwrite(str(path), photo)
