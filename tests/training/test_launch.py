"""tools/train_net.py: evaluation alone, and bad input in one sentence."""

from __future__ import annotations

import json
import traceback
from argparse import Namespace
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model
from torch.multiprocessing import ProcessRaisedException

from crack_data.calibration import DEFAULT_SCORE_THRESHOLD, DEFAULT_THRESHOLD
from crack_data.config import load_config
from crack_data.errors import CrackError
from crack_data.evaluation.evaluator import quality_names
from crack_data.training.data import sample_stream
from crack_data.training.launch import (
    adapt_to_random_weights,
    outside_errors,
    run,
    start,
    unread_keys,
)
from crack_data.training.loop import BatchMonitor


def _parse(repo: Path, *command: str) -> Namespace:
    config = str(repo / "configs" / "crack_mobilenet.yaml")
    return default_argument_parser().parse_args(["--config-file", config, *command])


def _run(repo: Path, *command: str) -> None:
    run(_parse(repo, *command))


def test_eval_only(
    repo: Path, small: list[str], make_config: Callable[..., CfgNode], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "weights.pth"
    torch.save({"model": build_model(make_config()).state_dict()}, path)
    _run(repo, "--eval-only", *small, "MODEL.WEIGHTS", str(path))
    assert "| test set |" in capsys.readouterr().out
    found = _metrics(tmp_path / "out")
    used = DEFAULT_SCORE_THRESHOLD, DEFAULT_THRESHOLD
    assert (found["score_threshold"], found["threshold"]) == used

    given = ["--eval-only", *small, "MODEL.WEIGHTS", str(path)]
    with pytest.raises(CrackError, match=r"of another model: .*cls_score\.weight"):
        _run(repo, *given, "MODEL.ROI_HEADS.NUM_CLASSES", "3")
    for key, value in (("DATASETS.TEST", "()"), ("MODEL.WEIGHTS", "")):
        with pytest.raises(CrackError, match=f"{key} is empty"):
            _run(repo, *given, key, value)


def test_a_photo_that_cannot_be_evaluated(repo: Path, small: list[str], data: Path) -> None:
    (data / "val_02.png").write_bytes(b"no photo")
    keys = ["SOLVER.MAX_ITER", "1", "DATALOADER.NUM_WORKERS", "1"]
    with pytest.raises(CrackError, match=r"val_02\.png") as caught:
        _run(repo, *small, *keys)
    assert "\n" not in str(caught.value)
    content = json.loads((data / "val.json").read_text())
    content["info"] = {"conversion": {"id": "one", "splits": []}}  # whose sizes are not doubted
    (data / "val.json").write_text(json.dumps(content))
    (data / "val_02.png").write_bytes(cv2.imencode(".png", np.zeros((5, 6, 3), np.uint8))[1])
    with pytest.raises(CrackError, match=r"val_02\.png has 6x5 px, but its data set says 96x72"):
        _run(repo, *small, *keys)
    assert not list((data.parent / "out").glob("*.pth"))  # nothing was trained


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (["DATASETS.TRAIN", "('nowhere.json',)"], r"nowhere\.json does not exist"),
        (["DATASETS.TRAIN", "('crack_trian',)"], r"'crack_trian', which is not registered"),
        (["SOLVER.MAX_ITERS", "3"], r"SOLVER\.MAX_ITERS"),
        (["SOLVER.MAX_ITER", "0"], r"SOLVER\.MAX_ITER is 0"),
        (["MODEL.DEVICE", "cudaa"], r"^MODEL\.DEVICE cudaa cannot be used; take cpu or cuda: "),
        (["SOLVER.LR_SCHEDULER_NAME", "Cosine"], "from the config: .* LR scheduler: Cosine"),
        (["MODEL.CRACK_MAP.IN_FEATURES", "['p9']"], r"'image'\], not \['p9'\]"),
        (["MODEL.CRACK_MAP.CHANNELS", "[32]"], r"CHANNELS needs 2 numbers: \[32\]"),
        (["CRACK.BEST_METRIC", "crack/f2"], r"CRACK\.BEST_METRIC crack/f2 is no metric"),
        (
            ["CRACK.BEST_METRIC", "crack_vall/crack/f1"],
            r"crack_vall/crack/f1 is no metric of which",
        ),
        (["CRACK.BEST_METRIC", "crack/coverage_mae"], r"is no metric of which more is better; use"),
        (["CRACK.BEST_METRIC", "val/instances/false_splits"], r"of which more is better; use"),
        (["MODEL.WEIGHTS", "none.pth"], r"none\.pth does not exist"),
        (["MODEL.BACKBONE.WEIGHTS", "none.pth"], r"none\.pth does not exist"),
        (["OUTPUT_DIR", ""], "OUTPUT_DIR is empty"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "GeneralizedRCNN needs MODEL.MASK_ON"),
    ],
)
def test_bad_input(repo: Path, small: list[str], pair: list[str], sentence: str) -> None:
    with pytest.raises(CrackError, match=sentence) as caught:
        _run(repo, *small, *pair)
    assert "\n" not in str(caught.value)


def test_flags_that_do_not_go_together(repo: Path, small: list[str]) -> None:
    with pytest.raises(CrackError, match=r"--eval-only evaluates MODEL.WEIGHTS, and --resume goes"):
        _run(repo, "--eval-only", "--resume", *small)
    for flags, sentence in (
        (["--machine-rank", "2"], "--machine-rank 2: --num-machines 2 has ranks from 0 to 1"),
        (["--dist-url", "auto"], "--dist-url auto: name machine 0 and a port"),
    ):
        with pytest.raises(CrackError, match=sentence):
            start(_parse(repo, "--num-machines", "2", *flags))


def test_metrics_of_which_more_is_better() -> None:
    found = set(quality_names())
    assert {"bbox/AP", "instances/centreline_coverage", "width/0-3", "crack/f1_2px_low"} <= found
    assert not [x for x in found if "false_" in x or "/coverage_" in x or "threshold" in x]


def test_no_config() -> None:
    with pytest.raises(CrackError, match="name a config: --config-file"):
        run(default_argument_parser().parse_args([]))


_TWO_PROCESSES = ["--num-gpus", "2", "--dist-url", "auto"]


def _metrics(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("inference/*/crack_metrics.json")
    return json.loads(path.read_text())


def _break_drawn(data: Path, *positions: int) -> set[str]:
    """Spoil the training photos at these positions of the seed's stream; return their paths."""
    photos = [photo for _, photo in islice(sample_stream(torch.ones(12), seed=7), 12)]
    paths = [data / f"train_{photos[position] + 1:02d}.png" for position in positions]
    for path in paths:
        path.write_bytes(b"no photo")
    return {*map(str, paths)}


@pytest.mark.distributed
@pytest.mark.usefixtures("unmeasured")
def test_two_processes_train_and_evaluate(
    repo: Path, small: list[str], data: Path, tmp_path: Path
) -> None:
    """Each half of a batch and of the photos; one process finds the same by the same weights."""
    broken = _break_drawn(data, 1, 3)  # by the second
    allowed = ["CRACK.MAX_BAD_PHOTOS", "0.2"]
    start(_parse(repo, *_TWO_PROCESSES, *small, *allowed, "SOLVER.MAX_ITER", "2"))
    out, alone = tmp_path / "out", tmp_path / "alone"
    assert (out / "model_best.pth").exists()
    state = torch.load(out / "model_0000001.pth", weights_only=True)
    assert state["trainer"]["samples"] == 4
    assert {*state["trainer"]["bad_photos"]} == broken
    summary = (out / "summary.md").read_text()
    assert "2 photos could not be read" in summary
    assert all(name in summary for name in broken)
    pairs = ["MODEL.WEIGHTS", str(out / "model_final.pth"), "OUTPUT_DIR", str(alone)]
    _run(repo, "--eval-only", *small, *pairs)
    assert _metrics(out)["photos"] == 4
    assert _metrics(out) == _metrics(alone)


@pytest.mark.distributed
@pytest.mark.slow
def test_the_photos_that_all_processes_skip_are_counted_together(
    repo: Path, small: list[str], data: Path
) -> None:
    _break_drawn(data, 0, 1)
    with pytest.raises(CrackError, match=r"^2 of 12 photos cannot be read"):
        start(_parse(repo, *_TWO_PROCESSES, *small, "CRACK.MAX_BAD_PHOTOS", "0.1"))


@pytest.mark.distributed
@pytest.mark.slow
def test_a_process_that_fails_is_a_sentence(repo: Path, small: list[str]) -> None:
    pairs = ["SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0"]
    with pytest.raises(CrackError, match=r"^the loss became infinite"):
        start(_parse(repo, *_TWO_PROCESSES, *small, *pairs))


def test_a_monitor_names_the_photos_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [{"image_id": x, "file_name": f"{x}.jpg", "dataset_name": "a"} for x in (1, 2)]
    other = ([("3.jpg", "is damaged")], [{**photos[0], "file_name": "4.jpg"}])
    monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda mine: [mine, other])
    monitor = BatchMonitor(0.5)
    monitor.photos = 100
    batch = [{**photo, "image": 0, "skipped": []} for photo in photos]
    assert monitor(batch) == batch
    assert [photo["file_name"] for photo in monitor.last] == ["1.jpg", "2.jpg", "4.jpg"]
    assert monitor.bad == {"3.jpg": "is damaged"}


@pytest.mark.distributed
@pytest.mark.usefixtures("unmeasured")
def test_so_is_a_photo_that_one_cannot_read(repo: Path, small: list[str], data: Path) -> None:
    (data / "val_02.png").write_bytes(b"no photo")
    with pytest.raises(CrackError, match=r"^photo .*val_02\.png") as caught:
        start(_parse(repo, *_TWO_PROCESSES, *small))
    assert "\n" not in str(caught.value)


def test_a_fault_of_ours_in_a_process_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though it comes up while bad input is dealt with."""

    def launch(*_: object) -> None:
        try:
            try:
                raise CrackError("bad input")
            except CrackError:
                raise TypeError("a fault")  # noqa: B904
        except TypeError:
            raise ProcessRaisedException(traceback.format_exc(), 0, 7) from None

    monkeypatch.setattr("crack_data.training.launch.launch", launch)
    args = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
    with pytest.raises(ProcessRaisedException, match="TypeError: a fault"):
        start(args)


def test_random_weights_let_every_layer_learn(repo: Path) -> None:
    def adapted(name: str, *pairs: str) -> tuple[int, bool, str]:
        cfg = load_config(str(repo / "configs" / name), pairs)
        adapt_to_random_weights(cfg)
        return cfg.MODEL.BACKBONE.FREEZE_AT, cfg.CRACK.FREEZE_BN_STATS, cfg.MODEL.RESNETS.NORM

    assert adapted("crack_r101.yaml") == (2, False, "FrozenBN")
    assert adapted("crack_r101.yaml", "MODEL.WEIGHTS", "") == (0, False, "BN")
    assert adapted("crack_mobilenet.yaml")[:2] == (0, True)
    assert adapted("crack_mobilenet.yaml", "MODEL.BACKBONE.WEIGHTS", "")[:2] == (0, False)


def test_keys_of_detectron2_that_have_no_effect_are_named(repo: Path) -> None:
    config = str(repo / "configs" / "crack_mobilenet.yaml")
    assert unread_keys(load_config(config)) == []
    given = ["TEST.AUG.ENABLED", "True", "INPUT.RANDOM_FLIP", "vertical", "VIS_PERIOD", "1"]
    given += ["SOLVER.AMP.ENABLED", "True"]  # of the GPU that is this config's device
    named = ["INPUT.RANDOM_FLIP", "TEST.AUG.ENABLED", "VIS_PERIOD"]
    assert unread_keys(load_config(config, given)) == named
    given += ["MODEL.DEVICE", "cpu"]
    assert unread_keys(load_config(config, given)) == [*named, "SOLVER.AMP.ENABLED"]


def test_a_folder_that_cannot_be_written_to(repo: Path, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "out")  # a read-only folder does not stop root
    with pytest.raises(CrackError, match=r"OUTPUT_DIR .*out cannot be written to \(Not a dir"):
        _run(repo, *small, "OUTPUT_DIR", folder)


def test_a_full_disk_is_a_sentence(repo: Path, small: list[str], tmp_path: Path) -> None:
    """A device on which every write fails stands in for the disk."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").symlink_to("/dev/full")
    with pytest.raises(CrackError, match=r"OUTPUT_DIR .*cannot be written to \(No space left"):
        _run(repo, *small, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "()")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "OUTPUT_DIR out cannot be written to .No space"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "), "--shm-size"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "NUM_WORKERS 0"),
    ],
)
def test_errors_from_outside_are_sentences(error: Exception, sentence: str) -> None:
    with pytest.raises(CrackError, match=sentence), outside_errors("out"):
        raise error


def test_errors_of_ours_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes"), outside_errors("out"):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(OSError, match="allocate memory"), outside_errors("out"):
        raise OSError(12, "Cannot allocate memory")
