"""Which photo stands at which place of the endless stream of training samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import Sampler

from ..errors import CrackError


class StreamSampler(Sampler[tuple[int, int]]):
    """Yields (position in the stream, index of the photo), from any position on.

    A sample's position is all that its augmentation depends on besides the seed, so a run that
    starts at position p continues exactly the run that stopped there, with any number of workers.
    With several processes each takes every n-th position.
    """

    def __init__(self, weights: torch.Tensor, seed: int, start: int = 0) -> None:
        """Make the stream.

        Args:
            weights: (photos,) how often each is drawn, relative to the others.
            seed: the same in all processes.
            start: positions already used, by all processes together.
        """
        self.start = start
        if bool((weights == weights[0]).all()):
            self.photos: Sampler[int] = TrainingSampler(len(weights), seed=seed)
        else:
            factors = weights / weights[weights > 0].min()
            self.photos = RepeatFactorTrainingSampler(factors, seed=seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        world, rank = comm.get_world_size(), comm.get_rank()
        positions = itertools.count(rank, world)
        stream = zip(positions, self.photos, strict=False)
        return itertools.islice(stream, self.start // world, None)


def load_records(cfg: CfgNode, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The records of these data sets, one after the other, each with its "dataset_name"."""
    keep_all = not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    records = []
    for name in names:
        for record in get_detection_dataset_dicts([name], filter_empty=not keep_all):
            records.append({**record, "dataset_name": name})
    return records


def photo_weights(cfg: CfgNode, records: list[dict[str, Any]]) -> torch.Tensor:
    """(photos,) how often each record is drawn, relative to the others.

    That is the weight of its data set in CRACK.SAMPLING_WEIGHTS, times CRACK.CRACK_FREE_WEIGHT
    where it has no crack.

    Raises:
        CrackError: a weight cannot be used, or they do not go with DATASETS.TRAIN.
    """
    if cfg.CRACK.CRACK_FREE_WEIGHT < 0:
        raise CrackError(
            f"CRACK.CRACK_FREE_WEIGHT is {cfg.CRACK.CRACK_FREE_WEIGHT}; it must be 0 or more"
        )
    by_name = _weights_by_name(cfg)
    return torch.tensor(
        [
            by_name[record["dataset_name"]]
            * (1.0 if record["annotations"] else cfg.CRACK.CRACK_FREE_WEIGHT)
            for record in records
        ]
    )


def _weights_by_name(cfg: CfgNode) -> dict[str, float]:
    weights, names = cfg.CRACK.SAMPLING_WEIGHTS, cfg.DATASETS.TRAIN
    if not weights:
        return dict.fromkeys(names, 1.0)
    if len(weights) != len(names) or min(weights) < 0 or max(weights) <= 0:
        raise CrackError(
            f"CRACK.SAMPLING_WEIGHTS is {list(weights)}; it needs one weight >= 0, not all 0, for "
            f"each of the {len(names)} data sets in DATASETS.TRAIN"
        )
    return {name: float(weight) for name, weight in zip(names, weights, strict=True)}
