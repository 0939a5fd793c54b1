"""Two processes that share a batch compute the gradients of one process with all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

# Joint and shared batch are the same sum only where no layer and no loss looks at a whole batch:
# fixed norm layers; no sampling of anchors; ten proposals of every photo, whatever they are; and
# `gradients.py` leaves out Dice, which is a ratio over the batch.
_SEPARABLE = [
    "MODEL.MOBILENETV2.NORM", "FrozenBN",
    "MODEL.FPN.NORM", "FrozenBN",
    "MODEL.CRACK_MAP.NORM", "FrozenBN",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "100000",
    "MODEL.RPN.NMS_THRESH", "1.0",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "10",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "0",
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "100000",
    "SOLVER.CLIP_GRADIENTS.ENABLED", "False",
    "CRACK.EMA_DECAY", "0.0",
]  # fmt: skip


def _compute(repo: Path, processes: int, path: Path, pairs: list[str]) -> dict[str, Any]:
    script = Path(__file__).with_name("gradients.py")
    config = repo / "configs" / "crack_mobilenet.yaml"
    command = [sys.executable, str(script), str(processes), str(path), str(config), *pairs]
    done = subprocess.run(
        command, cwd=repo, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path, weights_only=True)


@pytest.mark.distributed
@pytest.mark.slow
def test_gradients(repo: Path, small: list[str], tmp_path: Path) -> None:
    def go(name: str, processes: int, photos: int) -> dict[str, Any]:
        pairs = [*small, *_SEPARABLE, "SOLVER.IMS_PER_BATCH", str(photos)]
        return _compute(repo, processes, tmp_path / name, pairs)

    joint, shared, half = go("joint", 1, 4), go("shared", 2, 4), go("half", 1, 2)
    assert joint["photos"] == shared["photos"]
    assert len(joint["photos"]) == 4
    largest = max(gradient.abs().max() for gradient in joint["gradients"].values())
    assert largest > 1e-3
    for name, gradient in joint["gradients"].items():
        assert torch.allclose(shared["gradients"][name], gradient, rtol=1e-3, atol=1e-6 * largest)
    # Which is not what each process has before they share.
    name = "backbone.fpn_output2.weight"
    assert not torch.allclose(half["gradients"][name], joint["gradients"][name], rtol=0.05)
