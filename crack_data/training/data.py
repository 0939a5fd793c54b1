"""The training data: how often each photo is drawn, and the batches made of the photos."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..config import value_by_set
from ..errors import CrackError
from ..segmentation import has_crack
from .mapper import CrackMapper

Batch = list[dict[str, Any]]
Record = dict[str, Any]

# So many photos are tried for one sample before it is given up.
MAX_TRIES = 10
# Between weights of photos: the stream holds the rarest photo once, and the others so often.
MAX_RATIO = 1000


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
        self.photos: Sampler[int] = TrainingSampler(len(weights), seed=seed)
        if bool((weights != weights[0]).any()):
            factors = weights / weights[weights > 0].min()
            self.photos = RepeatFactorTrainingSampler(factors, seed=seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        world, rank = comm.get_world_size(), comm.get_rank()
        stream = zip(itertools.count(rank, world), self.photos, strict=False)
        return itertools.islice(stream, self.start // world, None)


def load_records(cfg: CfgNode, names: tuple[str, ...]) -> list[Record]:
    """The records of these data sets, one after the other, each with its "dataset_name"."""
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    return [
        {**record, "dataset_name": name}
        for name in names
        for record in get_detection_dataset_dicts([name], filter_empty=filter_empty)
    ]


def photo_weights(cfg: CfgNode, records: list[Record]) -> torch.Tensor:
    """(photos,) how often each record is drawn, relative to the others.

    That is the weight of its set in CRACK.SAMPLING_WEIGHTS, times CRACK.CRACK_FREE_WEIGHT where it
    has no crack.

    Raises:
        CrackError: the weights do not go with DATASETS.TRAIN, or leave no photo.
    """
    crack_free = cfg.CRACK.CRACK_FREE_WEIGHT
    of_set = value_by_set(cfg, "SAMPLING_WEIGHTS", default=1.0)
    weights = torch.tensor(
        [of_set[x["dataset_name"]] * (1.0 if has_crack(x) else crack_free) for x in records]
    )
    if not weights.any():
        raise CrackError(
            "CRACK.SAMPLING_WEIGHTS and CRACK.CRACK_FREE_WEIGHT leave no photo of DATASETS.TRAIN "
            "to train on; raise one of them"
        )
    if weights.max() > MAX_RATIO * weights[weights > 0].min():
        raise CrackError(
            f"CRACK.SAMPLING_WEIGHTS and CRACK.CRACK_FREE_WEIGHT draw some photos more than "
            f"{MAX_RATIO} times as often as others; bring them nearer to each other, or to 0"
        )
    return weights


class TrainSamples(Dataset[dict[str, Any]]):
    """Maps (position, photo index) to a sample; an unreadable photo is replaced by another.

    A sample's "skipped" lists the photos that could not be read, as (file name, reason); if no
    replacement could be read either, it holds nothing else.
    """

    def __init__(self, cfg: CfgNode, records: list[Record], seed: int) -> None:
        self.records = DatasetFromList(records, copy=False)
        self.seed = seed
        self.mapper = CrackMapper(cfg)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        position, index = key
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # the training needs the cores
        rng = np.random.default_rng([self.seed, position])
        skipped: list[tuple[str, str]] = []
        for _ in range(MAX_TRIES):
            record = self.records[index]
            try:
                return {**self.mapper(record, rng), "skipped": skipped}
            except CrackError as error:
                skipped.append((record["file_name"], str(error)))
            index = int(rng.integers(len(self.records)))
        return {"skipped": skipped}


class BatchLoader(DataLoader[dict[str, Any]]):
    """Batches of samples, made in DATALOADER.NUM_WORKERS processes.

    They come through pipes, as bytes: tensors would lie in /dev/shm, of which a Docker container
    has 64 MB, and a worker that finds it full leaves the training waiting for ever.
    """

    def __iter__(self) -> Any:
        return map(pickle.loads, super().__iter__())


def build_train_loader(cfg: CfgNode, seed: int, start: int = 0) -> BatchLoader:
    """The training batches from sample ``start`` of the stream on.

    Raises:
        CrackError: the processes cannot share a batch of SOLVER.IMS_PER_BATCH equally.
    """
    size, world = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if size % world:
        raise CrackError(
            f"SOLVER.IMS_PER_BATCH is {size}; it must be a multiple of the {world} process(es)"
        )
    records = load_records(cfg, cfg.DATASETS.TRAIN)
    return BatchLoader(
        TrainSamples(cfg, records, seed),
        batch_size=size // world,
        sampler=StreamSampler(photo_weights(cfg, records), seed, start),
        drop_last=True,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=pickle.dumps,
    )
