"""Whole trainings, of a few iterations each."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from crack_data.errors import CrackError
from crack_data.training.data import Batch
from crack_data.training.loop import BatchMonitor
from crack_data.training.trainer import CrackTrainer


def _train(cfg: CfgNode, resume: bool = False) -> CrackTrainer:
    trainer = CrackTrainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def _log_of_start(trainer: CrackTrainer, resume: bool, caplog: pytest.LogCaptureFixture) -> str:
    """The line that says how a training begins, if not as planned."""
    # Detectron2's own loggers pass nothing on once a training has set them up.
    log = logging.getLogger("detectron2.crack_data.training")
    log.addHandler(caplog.handler)
    caplog.clear()
    with caplog.at_level("INFO", logger=log.name):
        trainer.resume_or_load(resume)
    log.removeHandler(caplog.handler)
    # Detectron2's formatter, once it is set up, shortens the names in records to d2.…
    (line,) = {x.getMessage() for x in caplog.records if x.name.endswith("crack_data.training")}
    return line


def _rows(cfg: CfgNode) -> list[dict[str, float]]:
    lines = Path(cfg.OUTPUT_DIR, "metrics.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_a_training_leaves_behind(make_config: Callable[..., CfgNode]) -> None:
    cfg = make_config("SOLVER.MAX_ITER", 6, "TEST.EVAL_PERIOD", 3)
    trainer = _train(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    names = {path.name for path in folder.iterdir()}
    assert {"model_best.pth", "model_final.pth", "curves.png", "summary.md"} <= names
    assert {"model_0000003.pth", "model_0000005.pth"} <= names  # the last two, of four
    assert "model_0000001.pth" not in names
    assert any(name.startswith("events.out.tfevents") for name in names)

    evaluated = {row["iteration"]: row for row in _rows(cfg) if "crack/f1" in row}
    assert set(evaluated) == {3, 6}
    assert {"bbox/AP50", "segm/AP50"} <= set(evaluated[3])
    assert any("total_loss" in row and "[metric]img_per_s" in row for row in _rows(cfg))

    state = torch.load(folder / "model_0000005.pth", weights_only=True)
    assert {"model", "ema", "trainer"} <= set(state)
    final = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    shipped = trainer.ema_or_model().state_dict()
    assert all(torch.equal(final[name], shipped[name]) for name in shipped)
    assert not torch.equal(final["backbone.fpn_output2.weight"],
                           state["model"]["backbone.fpn_output2.weight"])  # fmt: skip


def test_the_same_seed_gives_the_same_weights(make_config: Callable[..., CfgNode]) -> None:
    one, same, other = (
        _train(make_config("SOLVER.MAX_ITER", 2, "DATASETS.TEST", "()", "SEED", seed)).plain_model
        for seed in (7, 7, 8)
    )
    name = "backbone.fpn_output2.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_pretrained_norm_statistics_stay(make_config: Callable[..., CfgNode]) -> None:
    cfg = make_config("CRACK.FREEZE_BN_STATS", "True", "SOLVER.MAX_ITER", 4, "TEST.EVAL_PERIOD", 2)
    trainer = _train(cfg)
    means = {
        k: v for k, v in trainer.plain_model.state_dict().items() if k.endswith("running_mean")
    }
    below = {k: v for k, v in means.items() if k.startswith("backbone.bottom_up.")}
    assert below
    assert all((value == 0).all() for value in below.values())  # as they were initialised
    assert all((means[name] != 0).any() for name in means if name not in below)


def test_it_stops_without_gain(make_config: Callable[..., CfgNode]) -> None:
    cfg = make_config(
        "SOLVER.MAX_ITER", 20, "TEST.EVAL_PERIOD", 1, "CRACK.PATIENCE", 2,
        "CRACK.BEST_METRIC", "crack/f1", "SOLVER.BASE_LR", 1e-12,
    )  # fmt: skip
    trainer = _train(cfg)
    assert trainer.iter == 3  # the first evaluation is the best, two more are not better
    assert (trainer.best.best_iteration, trainer.best.without_gain) == (1, 2)
    assert "3 of 20, ended early" in Path(cfg.OUTPUT_DIR, "summary.md").read_text()
    assert Path(cfg.OUTPUT_DIR, "model_final.pth").exists()
    assert _train(cfg, resume=True).iter == 3
    for metric, kept in (("crack/f1", True), ("crack/recall", False)):  # which do not compare
        trainer = CrackTrainer(make_config("CRACK.BEST_METRIC", metric))
        trainer.resume_or_load(resume=True)
        assert (trainer.best.best is not None) == kept


def test_a_loss_that_is_not_finite(make_config: Callable[..., CfgNode]) -> None:
    cfg = make_config("SOLVER.BASE_LR", 1e30, "SOLVER.WARMUP_ITERS", 0, "DATASETS.TEST", "()")
    with pytest.raises(CrackError, match=r"infinite or NaN at iteration \d+; .*bad_batch_0\.json"):
        _train(cfg)
    report = json.loads(Path(cfg.OUTPUT_DIR, "bad_batch_0.json").read_text())
    assert len(report["photos"]) == 2
    assert set(report["photos"][0]) == {"image_id", "file_name", "dataset_name"}


def test_crossing_cracks_that_are_labelled_apart_are_two_targets(
    make_config: Callable[..., CfgNode], data: Path
) -> None:
    content = json.loads((data / "train.json").read_text())
    polygons = ([5, 35, 91, 35, 91, 38, 5, 38], [40, 4, 43, 4, 43, 68, 40, 68])
    content["annotations"] = [
        {"id": 2 * image["id"] + k, "image_id": image["id"], "category_id": 1, "segmentation": [x]}
        for image in content["images"]
        for k, x in enumerate(polygons)
    ]
    (data / "train.json").write_text(json.dumps(content))
    targets: list[int] = []

    class Monitor(BatchMonitor):
        def __call__(self, batch: Batch) -> Batch:
            targets.extend(len(sample["instances"]) for sample in batch)
            return super().__call__(batch)

    # Whole photos, turned by quarters.
    keys = ["SOLVER.MAX_ITER", 3, "DATASETS.TEST", "()", "CRACK.AUG.CROP_SIZE", 96]
    keys += ["CRACK.AUG.SCALE", "[1.0, 1.0]", "CRACK.AUG.ROTATE_PROB", 0.0]
    trainer = CrackTrainer(make_config(*keys))
    trainer.monitor = Monitor(0.0)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert targets == [2] * 6


def test_unreadable_photos(make_config: Callable[..., CfgNode], data: Path) -> None:
    for number in (1, 2, 3):
        (data / f"train_{number:02d}.png").write_bytes(b"no photo")
    keys = ["SOLVER.MAX_ITER", 6, "DATASETS.TEST", "()", "CRACK.MAX_BAD_PHOTOS"]
    trainer = _train(make_config(*keys, 0.3))
    assert {Path(name).name for name in trainer.monitor.bad} == {
        "train_01.png", "train_02.png", "train_03.png",
    }  # fmt: skip
    assert "3 photos could not be read" in Path(trainer.cfg.OUTPUT_DIR, "summary.md").read_text()
    with pytest.raises(CrackError, match="1 of 12 photos cannot be read"):
        _train(make_config(*keys, 0.01))


def test_a_checkpoint_of_other_keys_is_not_resumed(
    make_config: Callable[..., CfgNode], caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["SOLVER.MAX_ITER", 2, "DATASETS.TEST", "()"]
    trainer = CrackTrainer(make_config(*keys))
    line = _log_of_start(trainer, True, caplog)
    assert line.endswith("has no checkpoint: the training starts anew")
    trainer.train()
    with pytest.raises(CrackError, match=r"model_0000001\.pth is of another model"):
        _train(make_config(*keys, "MODEL.MOBILENETV2.WIDTH_MULT", 0.5), resume=True)
    with pytest.raises(
        CrackError, match=r"model_0000001\.pth holds no training .*SOLVER\.OPTIMIZER was adamw"
    ):
        _train(make_config(*keys, "SOLVER.OPTIMIZER", "sgd"), resume=True)
    path = Path(make_config().OUTPUT_DIR, "model_0000001.pth")
    for spoilt in (b"\xff", b"\0\0", b"gone.pth"):
        path.with_name("last_checkpoint").write_bytes(spoilt)
        with pytest.raises(CrackError, match="last_checkpoint is damaged"):
            _train(make_config(*keys), resume=True)
    path.with_name("last_checkpoint").write_text(path.name)
    torch.save({"model": torch.load(path, weights_only=True)["model"]}, path)
    with pytest.raises(CrackError, match=r"model_0000001\.pth holds no training .*'trainer'"):
        _train(make_config(*keys), resume=True)


def test_an_earlier_training_is_set_aside(
    make_config: Callable[..., CfgNode], caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["SOLVER.MAX_ITER", 2, "DATASETS.TEST", "()"]
    folder = Path(make_config().OUTPUT_DIR)
    for number in (1, 2):
        cfg = _train(make_config(*keys, "CRACK.AUG.ROTATE_PROB", number / 10)).cfg
        weights = (folder / "model_final.pth").read_bytes()
        (folder / "model_final.calibration.json").write_text(f"{number}")
        (folder / "inference" / "val").mkdir(parents=True)
        for name in ("events.out.tfevents.1", "bad_batch_0.json"):
            (folder / name).touch()
        (folder / "config.yaml").write_text("of the new training, as `default_setup` leaves it")
        line = _log_of_start(CrackTrainer(make_config(*keys)), False, caplog)
        aside = folder / f"earlier_{number}"
        assert line == f"The earlier training in {folder} is now in {aside}"
        assert (aside / "model_final.pth").read_bytes() == weights
        assert (aside / "model_final.calibration.json").read_text() == f"{number}"
        assert (aside / "config.yaml").read_text() == cfg.dump()
        assert (aside / "metrics.json").exists()
        assert (aside / "inference" / "val").exists()
        assert (aside / "bad_batch_0.json").exists()
        assert (aside / "events.out.tfevents.1").exists()
        assert not (folder / "inference").exists()
        assert not [*folder.glob("model_*"), *folder.glob("last_checkpoint")]


@pytest.mark.parametrize("resume", [True, False])
def test_weights_without_a_checkpoint_are_set_aside(
    make_config: Callable[..., CfgNode], resume: bool
) -> None:
    folder = Path(make_config().OUTPUT_DIR)
    names = {"metrics.json", "model_best.pth", "summary.md"}
    for name in names:
        (folder / name).touch()
    CrackTrainer(make_config()).resume_or_load(resume)
    assert {path.name for path in (folder / "earlier_1").iterdir()} == names


@pytest.mark.parametrize(
    ("key", "value"), [("LABEL_RIMS", "(1.0, 2.0)"), ("SAMPLING_WEIGHTS", "(0.0,)")]
)
def test_what_is_refused_sets_nothing_aside(
    make_config: Callable[..., CfgNode], key: str, value: str
) -> None:
    folder = Path(make_config().OUTPUT_DIR)
    names = {"last_checkpoint", "metrics.json", "model_final.pth"}
    for name in names:
        (folder / name).touch()
    with pytest.raises(CrackError, match=rf"CRACK\.{key} "):
        _train(make_config(f"CRACK.{key}", value))
    assert {path.name for path in folder.iterdir()} == names


def test_checkpoints_come_after_whole_steps(make_config: Callable[..., CfgNode]) -> None:
    keys = ("SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")
    for periods in ([5, 2, 4], [4, 5, 4], [4, 2, 3]):
        given = [x for pair in zip(keys, periods, strict=True) for x in pair]
        told = rf"multiples of SOLVER\.ACCUMULATE \(2\), but are {str(periods)[1:-1]}$"
        with pytest.raises(CrackError, match=told):
            CrackTrainer(make_config("SOLVER.ACCUMULATE", 2, *given))


def test_the_config_decides_after_a_resumption(
    make_config: Callable[..., CfgNode], caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["DATASETS.TEST", "()", "SOLVER.WARMUP_ITERS", 0, "SOLVER.MAX_ITER"]
    before = _train(make_config(*keys, 2))
    moments = dict(before.optimizer.state)
    changed = ["SOLVER.BASE_LR", 1e-4, "SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.MAX_ITER", 4]
    changed += ["SEED", 9, "CRACK.AUG.SCALE", "[1.0, 2.0]", "SOLVER.STEPS", "(3,)"]
    changed += ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"]
    trainer = CrackTrainer(make_config(*keys, 2, *changed))
    line = _log_of_start(trainer, True, caplog)
    assert "SOLVER.BASE_LR 0.001 -> 0.0001" in line
    assert "SOLVER.WEIGHT_DECAY 0.01 -> 0.0" in line
    assert "SOLVER.MAX_ITER 2 -> 4" in line
    assert "CRACK.AUG.SCALE [0.7, 1.4] -> [1.0, 2.0]" in line
    assert "SEED 7 -> 9" in line
    assert trainer.seed == 9

    groups = trainer.optimizer.param_groups
    factors = {group["lr"] / group["initial_lr"] for group in groups}
    assert factors == {1.0}  # before the only step of the schedule
    assert {group["initial_lr"] for group in groups} == {1e-4, 0.5e-4}
    assert {group["weight_decay"] for group in groups} == {0.0}
    for name, parameter in before.plain_model.named_parameters():
        own = trainer.optimizer.state[trainer.plain_model.get_parameter(name)]
        assert torch.equal(own["exp_avg"], moments[parameter]["exp_avg"])
    trainer.train()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(
        0.1 * trainer.optimizer.param_groups[0]["initial_lr"]
    )


def test_an_evaluation_without_a_value_is_no_best(make_config: Callable[..., CfgNode]) -> None:
    """Average precision is NaN on a set without cracks, which nothing would compare with."""
    trainer = CrackTrainer(make_config("CRACK.BEST_METRIC", "segm/AP50"))
    trainer.best.trainer = trainer
    trainer.best.update({"segm": {"AP50": float("nan")}})
    assert trainer.best.best is None
    assert trainer.best.without_gain == 0
