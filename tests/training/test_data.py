"""Samples and batches: the stream can be continued anywhere, and weights hold."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from crack_data.errors import CrackError
from crack_data.modeling.crack_map_head import IGNORED
from crack_data.training.data import (
    TrainSamples,
    build_train_loader,
    load_records,
    photo_weights,
    sample_stream,
)
from crack_data.training.loop import BatchMonitor

WEIGHTS = {"equal": torch.ones(10), "unequal": torch.tensor([1.0] * 8 + [3.0] * 2)}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("start", [0, 7, 10, 123])
def test_it_goes_on_where_it_stopped(weights: torch.Tensor, start: int) -> None:
    whole = list(islice(sample_stream(weights, seed=4), 200))
    rest = list(islice(sample_stream(weights, seed=4, start=start), 200 - start))
    assert rest == whole[start:]
    assert [position for position, _ in whole] == list(range(200))


def test_equal_weights_show_every_photo_once_an_epoch() -> None:
    photos = [photo for _, photo in islice(sample_stream(WEIGHTS["equal"], seed=0), 30)]
    for epoch in range(3):
        assert sorted(photos[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert photos[:10] != photos[10:20]


def test_a_weight_of_three_draws_three_times_as_often() -> None:
    drawn = Counter(p for _, p in islice(sample_stream(WEIGHTS["unequal"], seed=0), 1400))
    assert [drawn[i] for i in range(8)] == [100] * 8
    assert [drawn[8], drawn[9]] == [300, 300]


def test_weights_go_by_data_set_and_crack(make_config: Callable[..., CfgNode], data: Path) -> None:
    train, val = str(data / "train.json"), str(data / "val.json")
    cfg = make_config(
        "DATASETS.TRAIN", f"('{train}', '{val}')", "CRACK.SAMPLING_WEIGHTS", "[1.0, 2.5]",
        "CRACK.CRACK_FREE_WEIGHT", 3.0,
    )  # fmt: skip
    records = load_records(cfg)
    # Every fourth photo is without a crack.
    expected = [1.0, 1.0, 1.0, 3.0] * 3 + [2.5, 2.5, 2.5, 7.5]
    assert photo_weights(cfg, records).tolist() == expected
    assert {record["dataset_name"] for record in records[12:]} == {val}


def test_a_set_of_which_filtering_leaves_nothing(
    make_config: Callable[..., CfgNode], data: Path
) -> None:
    content = json.loads((data / "train.json").read_text())
    content["annotations"] = []
    (data / "free.json").write_text(json.dumps(content))
    sets = f"('{data / 'train.json'}', '{data / 'free.json'}')"
    keys = ["DATASETS.TRAIN", sets, "DATALOADER.FILTER_EMPTY_ANNOTATIONS"]
    assert len(load_records(make_config(*keys, False))) == 24
    named = r"^DATALOADER\.FILTER_EMPTY_ANNOTATIONS leaves no photo of .*free\.json "
    with pytest.raises(CrackError, match=named):
        load_records(make_config(*keys, True))
    assert len(load_records(make_config("DATALOADER.FILTER_EMPTY_ANNOTATIONS", True))) == 9


@pytest.mark.parametrize("weights", ["[1.0, 2.0]", "[-1.0]", "[0.0]", "['a']"])
def test_weights_that_do_not_fit(make_config: Callable[..., CfgNode], weights: str) -> None:
    records = load_records(make_config())
    with pytest.raises(CrackError, match=r"CRACK\.SAMPLING_WEIGHTS"):
        photo_weights(make_config("CRACK.SAMPLING_WEIGHTS", weights), records)


def _break(data: Path, *numbers: int) -> None:
    for number in numbers:
        path = data / f"train_{number:02d}.png"
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(
    make_config: Callable[..., CfgNode], workers: int
) -> None:
    def first(count: int, start: int) -> list[torch.Tensor]:
        loader = build_train_loader(make_config("DATALOADER.NUM_WORKERS", count), 3, start)
        return [sample["image"] for batch in islice(loader, 6) for sample in batch]

    alone, split = first(0, 0), first(workers, 0)
    assert len(alone) == 12
    assert all(torch.equal(a, b) for a, b in zip(alone, split, strict=True))
    later = first(workers, 4)
    assert all(torch.equal(a, b) for a, b in zip(alone[4:], later[:8], strict=True))


def test_an_unreadable_photo_is_replaced(make_config: Callable[..., CfgNode], data: Path) -> None:
    _break(data, 3)
    cfg = make_config()
    samples = TrainSamples(cfg, load_records(cfg), seed=0)
    assert samples[5, 0]["skipped"] == []
    replaced = samples[5, 2]
    ((name, reason),) = replaced["skipped"]
    assert name.endswith("train_03.png")
    assert name in reason
    assert replaced["file_name"] != name
    assert torch.equal(replaced["image"], samples[5, 2]["image"])


def test_it_is_replaced_by_a_photo_that_may_be_drawn(
    make_config: Callable[..., CfgNode], data: Path
) -> None:
    _break(data, 3)
    cfg = make_config()
    samples = TrainSamples(cfg, load_records(cfg), seed=0)
    samples.weights = torch.eye(12)[[2, 7]].sum(dim=0)  # the third cannot be read
    names = {samples[position, 2]["file_name"] for position in range(20)}
    assert names == {samples.records[7]["file_name"]}


def test_without_augmentation_photos_stay_whole(make_config: Callable[..., CfgNode]) -> None:
    """Polygons, ignored areas and photos without a crack included."""
    cfg = make_config("CRACK.AUG.ENABLED", "False")
    records = load_records(cfg)
    triangle = {"segmentation": [[10, 10, 40, 10, 40, 40]], "iscrowd": 0}
    records[0]["annotations"] = [triangle, {**records[1]["annotations"][0], "iscrowd": 1}]
    samples = TrainSamples(cfg, records, seed=0)
    assert samples[0, 0]["image"].shape == (3, 72, 96)
    assert len(samples[0, 0]["instances"]) == 1
    assert set(samples[0, 0]["sem_seg"].unique().tolist()) == {0, 1, IGNORED}
    assert len(samples[1, 3]["instances"]) == 0
    assert int(samples[1, 3]["sem_seg"].max()) == 0


def test_it_counts_and_then_stops(
    make_config: Callable[..., CfgNode], data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _break(data, 1, 2, 3)
    loader = build_train_loader(make_config(), seed=0)
    monitor = BatchMonitor(max_bad_share=0.2)  # 2 of 12 are allowed
    monitor.photos = len(loader.dataset)
    batches = iter(loader)
    while len(monitor.bad) < 2:
        assert len(monitor(next(batches))) == 2
    with pytest.raises(CrackError, match=r"3 of 12 photos cannot be read, the first: .*train_0"):
        deque(map(monitor, islice(batches, 20)))
    assert len(monitor.bad) == 3
    assert caplog.text.count("skipped photo") == 3


def test_names_that_are_not_utf8_are_named(
    make_config: Callable[..., CfgNode], caplog: pytest.LogCaptureFixture
) -> None:
    cfg = make_config()
    records = load_records(cfg)
    records[2]["file_name"] = "gr\udcfcn.png"
    monitor = BatchMonitor(max_bad_share=1.0)
    monitor.photos = len(records)
    monitor([TrainSamples(cfg, records, seed=0)[5, 2]])
    assert r"skipped photo gr\udcfcn.png: gr\udcfcn.png" in caplog.text


def test_no_photo_at_all(make_config: Callable[..., CfgNode], data: Path) -> None:
    _break(data, *range(1, 13))
    loader = build_train_loader(make_config(), seed=0)
    monitor = BatchMonitor(max_bad_share=1.0)
    monitor.photos = len(loader.dataset)
    with pytest.raises(CrackError, match=r"\d+ of 12 photos cannot be read"):
        monitor(next(iter(loader)))


def test_batches_need_no_shared_memory(make_config: Callable[..., CfgNode]) -> None:
    """Tensors that workers share lie in files of /dev/shm; these come as bytes."""
    loader = build_train_loader(make_config("DATALOADER.NUM_WORKERS", 1), seed=0)
    batch = next(iter(loader))
    tensors = [batch[0]["image"], batch[0]["instances"].gt_masks.tensor]
    assert not any(tensor.is_shared() for tensor in tensors)


def test_a_batch_that_the_processes_cannot_share(
    make_config: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crack_data.training.data.comm.get_world_size", lambda: 2)
    with pytest.raises(CrackError, match=r"SOLVER\.IMS_PER_BATCH is 3; .* the 2 process"):
        build_train_loader(make_config("SOLVER.IMS_PER_BATCH", 3), seed=0)
