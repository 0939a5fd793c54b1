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
from ..segmentation import Record, has_crack
from .mapper import CrackMapper

Batch = list[dict[str, Any]]


def sample_stream(weights: torch.Tensor, seed: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Endless (position in the stream, index of the photo), from position ``start`` on.

    With the seed, the position decides a sample's augmentation: a run that starts at position p
    continues exactly the one that stopped there. Of several processes each takes every n-th
    position. ``weights``, shape (photos,), say how often each photo is drawn.
    """
    photos: Sampler[int] = TrainingSampler(len(weights), seed=seed)
    if bool((weights != weights[0]).any()):
        factors = weights / weights[weights > 0].min()
        photos = RepeatFactorTrainingSampler(factors, seed=seed)
    world, rank = comm.get_world_size(), comm.get_rank()
    stream = zip(itertools.count(rank, world), photos, strict=False)
    return itertools.islice(stream, start // world, None)


def load_records(cfg: CfgNode) -> list[Record]:
    """The records of DATASETS.TRAIN, set after set, each with its "dataset_name"."""
    return [
        {**record, "dataset_name": name}
        for name in cfg.DATASETS.TRAIN
        for record in get_detection_dataset_dicts([name], cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    ]


def photo_weights(cfg: CfgNode, records: list[Record]) -> torch.Tensor:
    """(photos,) how often each record is drawn; a `CrackError` where the config leaves none."""
    of_set = value_by_set(cfg, "SAMPLING_WEIGHTS", default=1.0)
    crack_free = cfg.CRACK.CRACK_FREE_WEIGHT
    weights = torch.tensor(
        [of_set[x["dataset_name"]] * (1.0 if has_crack(x) else crack_free) for x in records]
    )
    if not weights.any():
        raise CrackError(
            "CRACK.SAMPLING_WEIGHTS and CRACK.CRACK_FREE_WEIGHT leave no photo of DATASETS.TRAIN "
            "to train on; raise one of them"
        )
    return weights


class TrainSamples(Dataset[dict[str, Any]]):
    """Maps (position, photo index) to a sample; an unreadable photo is replaced by another.

    A sample's "skipped" lists the photos that could not be read, as (file name, reason); where no
    other could be read either, it holds nothing else.
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
        for _ in range(10):  # photos; then the sample is given up
            record = self.records[index]
            try:
                return {**self.mapper(record, rng), "skipped": skipped}
            except CrackError as error:
                skipped.append((record["file_name"], str(error)))
            index = int(rng.integers(len(self.records)))
        return {"skipped": skipped}


class BatchLoader(DataLoader[dict[str, Any]]):
    """Batches of samples, made in DATALOADER.NUM_WORKERS processes, which send them as bytes.

    Tensors would lie in /dev/shm, 64 MB in Docker: a worker that finds it full waits for ever.
    """

    def __iter__(self) -> Any:
        return map(pickle.loads, super().__iter__())


def build_train_loader(cfg: CfgNode, seed: int, start: int = 0) -> BatchLoader:
    """The training batches from sample ``start`` of the stream on."""
    size, world = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if size % world:
        raise CrackError(
            f"SOLVER.IMS_PER_BATCH is {size}; it must be a multiple of the {world} process(es)"
        )
    records = load_records(cfg)
    return BatchLoader(
        TrainSamples(cfg, records, seed),
        batch_size=size // world,
        sampler=sample_stream(photo_weights(cfg, records), seed, start),
        drop_last=True,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=pickle.dumps,
    )
