"""The training samples: position in, mapped crop out, whatever state a photo is in."""

from __future__ import annotations

import random
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, DatasetMapper, build_detection_train_loader
from torch.utils.data import DataLoader, Dataset, get_worker_info

from .mapper import CrackMapper, PhotoUnreadable
from .sampling import StreamSampler, load_records, photo_weights

# So many photos are tried for one sample before it is given up.
MAX_TRIES = 10


class TrainSamples(Dataset[dict[str, Any]]):
    """Maps (position, photo index) to a sample; an unreadable photo is replaced by another.

    A sample's "skipped" lists the photos that could not be read, as (file name, reason); if no
    replacement could be read either, it holds nothing else.
    """

    def __init__(self, cfg: CfgNode, records: list[dict[str, Any]], seed: int) -> None:
        """Args: cfg: the whole config; records: see `load_records`; seed: of the augmentation."""
        self.records = DatasetFromList(records, copy=False)
        self.seed = seed
        self.own_mapper = CrackMapper(cfg, augment=True) if cfg.CRACK.AUG.ENABLED else None
        self.stock_mapper = DatasetMapper(cfg, True)

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
                return {**self._map(record, rng), "skipped": skipped}
            except PhotoUnreadable as error:
                skipped.append((record["file_name"], str(error)))
            index = int(rng.integers(len(self.records)))
        return {"skipped": skipped}

    def _map(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        if self.own_mapper is not None:
            return self.own_mapper(record, rng)
        # Detectron2's augmentations draw from the global generators.
        random.seed(int(rng.integers(2**31)))
        np.random.seed(int(rng.integers(2**31)))
        try:
            return self.stock_mapper(record)
        except (OSError, ValueError) as error:
            raise PhotoUnreadable(str(error)) from error


def build_train_loader(cfg: CfgNode, seed: int, start: int = 0) -> tuple[DataLoader[Any], int]:
    """The training batches from sample ``start`` of the stream on, and the number of photos."""
    records = load_records(cfg, cfg.DATASETS.TRAIN)
    sampler = StreamSampler(photo_weights(cfg, records), seed, start)
    loader = build_detection_train_loader(
        TrainSamples(cfg, records, seed),
        mapper=None,
        sampler=sampler,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return loader, len(records)
