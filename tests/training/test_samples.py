"""Samples and batches, with photos that cannot be read among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from crack_data.errors import CrackError
from crack_data.training.samples import TrainSamples, build_train_loader
from crack_data.training.sampling import load_records
from crack_data.training.watching import BatchWatch


def _break(data: Path, *numbers: int) -> None:
    for number in numbers:
        path = data / f"train_{number:02d}.png"
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(
    make_config: Callable[..., CfgNode], workers: int
) -> None:
    def first(count: int, start: int) -> list[torch.Tensor]:
        loader, photos = build_train_loader(make_config("DATALOADER.NUM_WORKERS", count), 3, start)
        assert photos == 12
        return [sample["image"] for batch in islice(loader, 6) for sample in batch]

    alone, split = first(0, 0), first(workers, 0)
    assert len(alone) == 12
    assert all(torch.equal(a, b) for a, b in zip(alone, split, strict=True))
    later = first(workers, 4)
    assert all(torch.equal(a, b) for a, b in zip(alone[4:], later[:8], strict=True))


def test_an_unreadable_photo_is_replaced(make_config: Callable[..., CfgNode], data: Path) -> None:
    _break(data, 3)
    cfg = make_config()
    samples = TrainSamples(cfg, load_records(cfg, cfg.DATASETS.TRAIN), seed=0)
    assert samples[5, 0]["skipped"] == []
    replaced = samples[5, 2]
    ((name, reason),) = replaced["skipped"]
    assert name.endswith("train_03.png")
    assert reason.startswith("cannot be decoded")
    assert replaced["file_name"] != name
    assert torch.equal(replaced["image"], samples[5, 2]["image"])


def test_detectron2s_own_augmentation_is_repeatable(make_config: Callable[..., CfgNode]) -> None:
    cfg = make_config("CRACK.AUG.ENABLED", "False", "INPUT.MIN_SIZE_TRAIN", "(48, 64, 80)")
    samples = TrainSamples(cfg, load_records(cfg, cfg.DATASETS.TRAIN), seed=0)
    one, other = samples[3, 1], samples[3, 1]
    assert torch.equal(one["image"], other["image"])
    sizes = {samples[position, 1]["image"].shape[1] for position in range(20)}
    assert sizes == {48, 64, 80}


def test_it_counts_and_then_stops(
    make_config: Callable[..., CfgNode], data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _break(data, 1, 2, 3)
    loader, photos = build_train_loader(make_config(), seed=0)
    watch = BatchWatch(max_bad_share=0.2)  # 2 of 12 are allowed
    watch.photos = photos
    batches = iter(loader)
    while len(watch.bad) < 2:
        assert len(watch(next(batches))) == 2
    with pytest.raises(CrackError, match=r"3 of 12 photos cannot be read, the first: .*train_0"):
        deque(map(watch, islice(batches, 20)))
    assert len(watch.bad) == 3
    assert caplog.text.count("skipped photo") == 3


def test_no_photo_at_all(make_config: Callable[..., CfgNode], data: Path) -> None:
    _break(data, *range(1, 13))
    loader, photos = build_train_loader(make_config(), seed=0)
    watch = BatchWatch(max_bad_share=1.0)
    watch.photos = photos
    with pytest.raises(CrackError, match="no photo of a whole batch can be read"):
        watch(next(iter(loader)))
