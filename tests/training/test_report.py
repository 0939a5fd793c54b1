"""metrics.json, the curves and the page drawn from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
from detectron2.config import CfgNode

from crack_data.training.report import cut_metrics, read_metrics, series, write_report
from crack_data.training.trainer import CrackTrainer

ROWS = [
    {"iteration": 19, "total_loss": 2.0, "loss_cls": 1.5, "lr": 0.1, "time": 0.5},
    {"iteration": 29, "crack/f1": 0.625, "bbox/AP50": 40.0},
    {"iteration": 39, "total_loss": 1.0, "loss_cls": 0.5, "lr": 0.05, "time": 0.5},
    {"iteration": 49, "crack/f1": 0.5, "bbox/AP50": 50.0},
]


def _write(path: Path, tail: str = "") -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + tail)


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert read_metrics(path) == []
    _write(path, tail='{"iteration": 59, "total')
    assert read_metrics(path) == ROWS
    path.write_bytes(path.read_bytes() + b"\n\xff\0\0\n")  # blocks that a full disk spoilt
    assert read_metrics(path) == ROWS
    assert series(ROWS, "crack/f1") == {29: 0.625, 49: 0.5}


def test_cutting_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    _write(path, tail='{"iteration": 59, "total')
    cut_metrics(path, 39)
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS[:2]


def test_curves_and_summary(make_config: Callable[..., CfgNode]) -> None:
    trainer = CrackTrainer(make_config("SOLVER.MAX_ITER", 60, "SEED", -1))  # one is drawn
    folder = Path(trainer.cfg.OUTPUT_DIR)
    write_report(trainer)
    assert not (folder / "summary.md").exists()

    trainer.iter, trainer.best.best_iteration = 50, 29
    trainer.monitor.bad = {f"{number}.jpg": "is empty" for number in range(30)}
    trainer.monitor.bad |= {"a/b.jpg": "cannot be decoded", "gr\udcfcn.jpg": "is corrupt"}
    _write(folder / "metrics.json")
    write_report(trainer)
    picture = cv2.imread(str(folder / "curves.png"))
    assert picture.shape == (480, 1440, 3)
    assert (picture < 250).any(axis=2).mean() > 0.02  # something is drawn
    text = (folder / "summary.md").read_text()
    assert "| crack/f1 | 0.6250 | 0.5000 |" in text
    assert "| bbox/AP50 | 40.0000 | 50.0000 |" in text
    assert "4.0 photos/s" in text  # 2 photos in half a second
    assert "50 of 60, ended early" in text
    assert "`model_best.pth` is from iteration 29, chosen by crack/f1" in text
    trainer.best.best_iteration = -1
    write_report(trainer)
    assert "No best weights were kept: crack/f1 was" in (folder / "summary.md").read_text()
    assert f"| seed | {trainer.seed} |" in text
    assert text.count(": is empty") == 30
    assert "a/b.jpg: cannot be decoded" in text
    assert r"gr\udcfcn.jpg: is corrupt" in text
