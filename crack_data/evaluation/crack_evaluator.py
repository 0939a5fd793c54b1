"""The evaluator that stands beside COCOEvaluator: how well are the cracks' pixels found?"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..errors import CrackError
from ..files import atomic_write
from .ground_truth import GroundTruth
from .model_output import check_size, mask_and_map
from .per_photo import per_photo_csv
from .pixel_metrics import PhotoCounts, count_photo
from .summary import summarize


class CrackEvaluator(DatasetEvaluator):
    """Pixel metrics of a test set, as defined in docs/evaluation.md.

    Works with any model that predicts instance masks, in one process or several.
    """

    def __init__(self, dataset_name: str, cfg: CfgNode, output_dir: str | None = None) -> None:
        """Prepare to evaluate one dataset.

        Args:
            dataset_name: a name in DatasetCatalog.
            cfg: MODEL.CRACK_MAP.SCORE_THRESHOLD and OUTPUT_DIR are read.
            output_dir: folder of crack_metrics.json and crack_per_photo.csv; by default
                OUTPUT_DIR/inference/NAME, with NAME the dataset's.
        """
        self._truth = GroundTruth(dataset_name)
        self._score_threshold = cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD
        self._output_dir = output_dir or os.path.join(
            cfg.OUTPUT_DIR, "inference", folder_name(dataset_name)
        )
        self._photos: dict[Any, PhotoCounts] = {}

    def reset(self) -> None:
        """Forget all photos."""
        self._photos = {}

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Count the pixels of a batch: model inputs with image_id, and the model's outputs."""
        for photo, output in zip(inputs, outputs, strict=True):
            image_id = photo["image_id"]
            truth = self._truth.mask(image_id)
            mask, crack_map = mask_and_map(output, self._score_threshold)
            check_size(mask, truth.shape, self._truth.record(image_id)["file_name"])
            self._photos[image_id] = count_photo(truth, mask, crack_map)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Metrics of all processes' photos, as {"crack": {name: value}}; written as files too.

        Returns:
            An empty dictionary in every process but the main one.

        Raises:
            CrackError: not a single photo was processed.
        """
        comm.synchronize()
        gathered = comm.gather(self._photos, dst=0)
        if not comm.is_main_process():
            return OrderedDict()
        photos = {image_id: counts for part in gathered for image_id, counts in part.items()}
        if not photos:
            raise CrackError(f"dataset {self._truth.dataset_name} has no photos to evaluate on")
        metrics = summarize(list(photos.values()))
        self._write(photos, metrics)
        return OrderedDict(crack=metrics)

    def _write(self, photos: dict[Any, PhotoCounts], metrics: dict[str, float]) -> None:
        names = [self._truth.record(image_id)["file_name"] for image_id in photos]
        with atomic_write(os.path.join(self._output_dir, "crack_per_photo.csv")) as file:
            file.write(per_photo_csv(names, list(photos.values())))
        report = {
            "dataset": self._truth.dataset_name,
            "photos": len(photos),
            "crack_free_photos": sum(counts.true == 0 for counts in photos.values()),
            "score_threshold": self._score_threshold,
            "metrics": metrics,
        }
        with atomic_write(os.path.join(self._output_dir, "crack_metrics.json")) as file:
            file.write(json.dumps(report, indent=2, allow_nan=False).encode())
        logging.getLogger(__name__).info("Per-photo table and metrics are in %s", self._output_dir)


def folder_name(dataset_name: str) -> str:
    """A dataset's name, which may be a path, as the name of one folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", dataset_name.removesuffix(".json")).strip("_")
