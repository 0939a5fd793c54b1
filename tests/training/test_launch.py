"""tools/train_net.py: evaluation alone, and bad input in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model

from crack_data.config import load_config
from crack_data.errors import CrackError
from crack_data.training.launch import adapt_to_random_weights, run


def _run(repo: Path, *command: str) -> None:
    config = str(repo / "configs" / "crack_mobilenet.yaml")
    run(default_argument_parser().parse_args(["--config-file", config, *command]))


def test_eval_only(
    repo: Path, small: list[str], make_config: Callable[..., CfgNode], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "weights.pth"
    torch.save({"model": build_model(make_config()).state_dict()}, path)
    _run(repo, "--eval-only", *small, "MODEL.WEIGHTS", str(path))
    assert "| test set |" in capsys.readouterr().out

    given = ["--eval-only", *small, "MODEL.WEIGHTS", str(path)]
    with pytest.raises(CrackError, match=r"cls_score\.weight is \(2, 32\) in it and \(4, 32\)"):
        _run(repo, *given, "MODEL.ROI_HEADS.NUM_CLASSES", "3")
    with pytest.raises(CrackError, match=r"DATASETS\.TEST is empty"):
        _run(repo, *given, "DATASETS.TEST", "()")


def test_a_photo_that_cannot_be_evaluated(repo: Path, small: list[str], data: Path) -> None:
    (data / "val_02.png").write_bytes(b"no photo")
    keys = ["SOLVER.MAX_ITER", "1", "DATALOADER.NUM_WORKERS", "1"]
    with pytest.raises(CrackError, match=r"val_02\.png") as caught:
        _run(repo, *small, *keys)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (["DATASETS.TRAIN", "('nowhere.json',)"], r"nowhere\.json does not exist"),
        (["DATASETS.TRAIN", "('crack_trian',)"], r"'crack_trian', which is not registered"),
        (["SOLVER.MAX_ITERS", "3"], r"SOLVER\.MAX_ITERS"),
        (["MODEL.WEIGHTS", "none.pth"], r"none\.pth does not exist"),
        (["MODEL.BACKBONE.WEIGHTS", "none.pth"], r"none\.pth does not exist"),
    ],
)
def test_bad_input(repo: Path, small: list[str], pair: list[str], sentence: str) -> None:
    with pytest.raises(CrackError, match=sentence) as caught:
        _run(repo, *small, *pair)
    assert "\n" not in str(caught.value)


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_train_and_evaluate(repo: Path, small: list[str], tmp_path: Path) -> None:
    command = [
        sys.executable, "tools/train_net.py", "--config-file", "configs/crack_mobilenet.yaml",
        "--num-gpus", "2", "--dist-url", "auto", *small,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def go(*pairs: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "SOLVER.MAX_ITER", "4", *pairs],
            cwd=repo, capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip

    done = go("TEST.EVAL_PERIOD", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "model_best.pth").exists()
    state = torch.load(tmp_path / "out" / "model_0000003.pth", weights_only=True)
    assert state["trainer"]["samples"] == 8

    failed = go("SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0")
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1].startswith("error: the loss became infinite")


def test_random_weights_let_every_layer_learn(repo: Path) -> None:
    def adapt(name: str, *pairs: str) -> tuple[CfgNode, list[str]]:
        cfg = load_config(str(repo / "configs" / name), pairs)
        return cfg, adapt_to_random_weights(cfg)

    cfg, changed = adapt("crack_r101.yaml", "MODEL.WEIGHTS", "")
    assert changed == ["MODEL.BACKBONE.FREEZE_AT 0", "MODEL.RESNETS.NORM BN"]
    assert (cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT) == ("BN", 0)
    cfg, changed = adapt("crack_r101.yaml")
    assert (changed, cfg.MODEL.RESNETS.NORM) == ([], "FrozenBN")
    assert adapt("crack_mobilenet.yaml")[1] == []
    _, changed = adapt("crack_mobilenet.yaml", "MODEL.BACKBONE.WEIGHTS", "")
    assert changed == ["CRACK.FREEZE_BN_STATS False"]


def test_a_folder_that_cannot_be_written_to(repo: Path, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "out")  # a read-only folder does not stop root
    with pytest.raises(CrackError, match=r"OUTPUT_DIR .*out cannot be written to \(Not a dir"):
        _run(repo, *small, "OUTPUT_DIR", folder)
