"""The stream of samples: it can be continued anywhere, and weights hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from crack_data.errors import CrackError
from crack_data.training.sampling import StreamSampler, load_records, photo_weights

WEIGHTS = {"equal": torch.ones(10), "unequal": torch.tensor([1.0] * 8 + [3.0] * 2)}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("start", [0, 7, 10, 123])
def test_it_goes_on_where_it_stopped(weights: torch.Tensor, start: int) -> None:
    whole = list(islice(StreamSampler(weights, seed=4), 200))
    rest = list(islice(StreamSampler(weights, seed=4, start=start), 200 - start))
    assert rest == whole[start:]
    assert [position for position, _ in whole] == list(range(200))


def test_equal_weights_show_every_photo_once_an_epoch() -> None:
    photos = [photo for _, photo in islice(StreamSampler(WEIGHTS["equal"], seed=0), 30)]
    for epoch in range(3):
        assert sorted(photos[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert photos[:10] != photos[10:20]


def test_a_weight_of_three_draws_three_times_as_often() -> None:
    drawn = Counter(p for _, p in islice(StreamSampler(WEIGHTS["unequal"], seed=0), 1400))
    assert [drawn[i] for i in range(8)] == [100] * 8
    assert [drawn[8], drawn[9]] == [300, 300]


def test_weights_go_by_data_set(make_config: Callable[..., CfgNode], data: Path) -> None:
    train, val = str(data / "train.json"), str(data / "val.json")
    cfg = make_config(
        "DATASETS.TRAIN", f"('{train}', '{val}')", "CRACK.SAMPLING_WEIGHTS", "[1.0, 2.5]"
    )
    records = load_records(cfg, cfg.DATASETS.TRAIN)
    assert photo_weights(cfg, records).tolist() == [1.0] * 12 + [2.5] * 4
    assert {record["dataset_name"] for record in records[12:]} == {val}


def test_photos_without_cracks_have_a_weight_of_their_own(
    make_config: Callable[..., CfgNode],
) -> None:
    cfg = make_config("CRACK.CRACK_FREE_WEIGHT", 3.0)
    records = load_records(cfg, cfg.DATASETS.TRAIN)
    records[2] = {**records[2], "annotations": []}
    expected = [3.0 if not record["annotations"] else 1.0 for record in records]
    assert photo_weights(cfg, records).tolist() == expected
    with pytest.raises(CrackError, match=r"CRACK\.CRACK_FREE_WEIGHT"):
        photo_weights(make_config("CRACK.CRACK_FREE_WEIGHT", -1.0), records)


@pytest.mark.parametrize("weights", ["[1.0, 2.0]", "[-1.0]", "[0.0]"])
def test_weights_that_do_not_fit(make_config: Callable[..., CfgNode], weights: str) -> None:
    cfg = make_config("CRACK.SAMPLING_WEIGHTS", weights)
    with pytest.raises(CrackError, match=r"CRACK\.SAMPLING_WEIGHTS"):
        photo_weights(cfg, load_records(cfg, cfg.DATASETS.TRAIN))
