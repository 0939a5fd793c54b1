"""Fixtures that the whole test suite shares."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hypothesis
import pytest

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# One thread a process: the tests are small, and threads that wait for a busy core spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background job ignores Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Examples enough to find a fault, and no failure for a machine that is busy.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=30)
hypothesis.settings.load_profile("suite")

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CRACK_SHARED", REPO.parent / "shared"))
# In the environment of a process whose coverage is not measured: one that is killed, or may not
# write, would leave half a file of it; one that runs what other tests cover starts sooner without.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}


# The folders with the longest files: begun last, one would keep one core waiting for the other.
LONG = ("end_to_end", "training", "inference", "serve")


def _by_length(item: pytest.Item) -> int:
    folder = item.path.parent.name
    return LONG.index(folder) if folder in LONG else len(LONG)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first; tests of the shared data folder are skipped where it is absent."""
    items.sort(key=_by_length)
    if (SHARED / "data").is_dir():
        return
    absent = pytest.mark.skip(reason=f"no shared data folder at {SHARED} (CRACK_SHARED)")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout's root."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data folder, with data/; mark the test with `shared`."""
    return SHARED


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coverage of processes that the test starts is not measured."""
    for name, value in UNMEASURED.items():
        monkeypatch.setenv(name, value)


class ToolRun(NamedTuple):
    """What a tool has ended with and printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_tool(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., ToolRun]:
    """Runs a tool of the checkout in this process, for starting one takes seconds."""

    def run(name: str, *words: str | Path) -> ToolRun:
        tool = str(REPO / "tools" / name)
        monkeypatch.setattr(sys, "argv", [tool, *map(str, words)])
        monkeypatch.setattr(sys, "path", [*sys.path])  # which the tool adds to
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(tool, run_name="__main__")
        printed = capfd.readouterr()
        return ToolRun(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; mark the test with `browser`."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on the PATH")
    return path


@pytest.fixture(scope="session")
def tiny_stock_config() -> Callable[[], CfgNode]:
    """Makes configs of a stock GeneralizedRCNN, untrained, that a CPU runs in milliseconds."""
    return _tiny_stock_config


@pytest.fixture(scope="session")
def tiny_crack_config() -> Callable[..., CfgNode]:
    """Makes configs of this project's own model, untrained, that a CPU runs in milliseconds."""
    return _tiny_crack_config


_TINY = [
    "MODEL.DEVICE", "cpu",
    "MODEL.WEIGHTS", "",
    "MODEL.BACKBONE.WEIGHTS", "",
    "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "100",
    "MODEL.RPN.PRE_NMS_TOPK_TEST", "100",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "50",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "32",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16",
    "MODEL.CRACK_MAP.SCORE_THRESHOLD", "0.3",
    "CRACK.AUG.CROP_SIZE", "96",
    "INPUT.MIN_SIZE_TRAIN", "(96,)",
    "INPUT.MIN_SIZE_TEST", "96",
    "DATALOADER.NUM_WORKERS", "0",
    "SOLVER.IMS_PER_BATCH", "2",
    "SEED", "0",
]  # fmt: skip


def _tiny_stock_config() -> CfgNode:
    from detectron2.config import get_cfg

    from crack_data.config import add_crack_config

    cfg = get_cfg()
    add_crack_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 16
    cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.merge_from_list(_TINY)
    return cfg


def _tiny_crack_config(name: str = "crack_mobilenet.yaml") -> CfgNode:
    import crack_data.modeling  # noqa: F401 - registers the model's parts
    from crack_data.config import load_config

    return load_config(str(REPO / "configs" / name), _TINY)
