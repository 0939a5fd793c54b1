"""Evaluation of a predictor on registered data sets: what is measured is what users get."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm

from ..datasets import read_photo_of
from ..errors import CrackError
from ..files import atomic_write
from ..inference.prediction import CrackInstance, CrackPrediction
from ..segmentation import ignored_pixels, instance_masks
from .average_precision import (
    DEFINITIONS,
    EncodedInstances,
    average_precision,
    encode_instances,
    paint_scores,
)
from .counts import BoolMask, PhotoCounts, count_photo
from .instance_metrics import InstanceCounts, count_instances, summarize_instances
from .metrics import recall_by_width, summarize
from .tables import markdown_table, per_photo_csv, width_table

Predictor = Callable[[np.ndarray], CrackPrediction]
Record = dict[str, Any]
Results = OrderedDict[str, dict[str, float]]

logger = logging.getLogger("detectron2.crack_data.evaluation")


class PhotoResult(NamedTuple):
    """What is kept of one photo until the whole set is through, and sent between processes."""

    pixels: PhotoCounts
    instances: InstanceCounts
    encoded: dict[str, EncodedInstances]  # by definition of an instance


class CrackEvaluator(DatasetEvaluator):
    """Metrics of pixels and of instances of a test set, as defined in docs/evaluation.md.

    A Detectron2 evaluator whose outputs are `CrackPrediction`, in one process or several.
    """

    def __init__(self, dataset_name: str, cfg: CfgNode) -> None:
        """Evaluate a data set of DatasetCatalog; files go to OUTPUT_DIR/inference/NAME."""
        self.dataset_name = dataset_name
        self.records: list[Record] = DatasetCatalog.get(dataset_name)
        self._by_id = {record["image_id"]: record for record in self.records}
        self._cfg = cfg
        self._output_dir = os.path.join(cfg.OUTPUT_DIR, "inference", folder_name(dataset_name))
        self._photos: dict[Any, PhotoResult] = {}

    def reset(self) -> None:
        """Forget all photos."""
        self._photos = {}

    def process(self, inputs: Sequence[Record], outputs: Sequence[CrackPrediction]) -> None:
        """Compare predictions with the records that ``inputs`` name by their image_id.

        Raises:
            CrackError: the data set has no such photo, or it has another size there.
        """
        for given, prediction in zip(inputs, outputs, strict=True):
            record = self._by_id.get(given["image_id"])
            if record is None:
                raise CrackError(
                    f"data set {self.dataset_name} has no photo with image_id {given['image_id']}; "
                    "evaluate on the data set that the evaluator was made for"
                )
            self._photos[record["image_id"]] = self._compare(record, prediction)

    def _compare(self, record: Record, prediction: CrackPrediction) -> PhotoResult:
        size = record["height"], record["width"]
        if size != (prediction.height, prediction.width):
            raise CrackError(
                f"photo {record['file_name']} has {prediction.width}x{prediction.height} px, but "
                f"data set {self.dataset_name} says {size[1]}x{size[0]}; correct its JSON"
            )
        ignored = ignored_pixels(record)
        truth = list(true_instances(record, ignored))
        drawn = counted_instances(prediction.instances, ignored)
        rejected = counted_instances(prediction.rejected, ignored)
        levels = prediction.probability
        if self._cfg.MODEL.META_ARCHITECTURE != "CrackRCNN":
            # Without a crack map: the best score of any instance, drawn or not.
            scores = paint_scores([*prediction.instances, *prediction.rejected], size)
            levels = np.rint(255 * scores).astype(np.uint8)
        return PhotoResult(
            count_photo(paint_scores(truth, size) > 0, prediction.mask, levels, ignored),
            count_instances(truth, drawn),
            encode_instances(size, truth, drawn, rejected, self._cfg.MODEL.CRACK_MAP.LINK_GAP),
        )

    def evaluate(self) -> Results:
        """Metrics of all processes' photos, by task; written as files too.

        Returns:
            {"bbox": …, "segm": …, "crack": …, "instances": …, "width": …}, each {name: value};
            without bbox and segm for a set without cracks. Empty in all processes but the first.

        Raises:
            CrackError: not a single photo was processed that has a pixel to count.
        """
        comm.synchronize()
        gathered = comm.gather(self._photos, dst=0)
        if not comm.is_main_process():
            return OrderedDict()
        found = {image_id: photo for part in gathered for image_id, photo in part.items()}
        void = [image_id for image_id, photo in found.items() if not photo.pixels.area]
        if void:
            logger.warning(f"{len(void)} photos of {self.dataset_name} are ignored wholly")
        for image_id in void:
            del found[image_id]
        if not found:
            raise CrackError(f"data set {self.dataset_name} has no photos to evaluate on")
        # In the data set's order, so that the intervals do not hang on the number of processes.
        photos = {image_id: found[image_id] for image_id in self._by_id if image_id in found}
        widths = recall_by_width([photo.pixels for photo in photos.values()])
        results = _metrics(list(photos.values()), widths)
        self._write(photos, results, widths)
        return results

    def _write(
        self,
        photos: Mapping[Any, PhotoResult],
        results: Results,
        widths: dict[str, tuple[float, float]],
    ) -> None:
        records = [self._by_id[image_id] for image_id in photos]
        pixels = [photo.pixels for photo in photos.values()]
        table = per_photo_csv(records, pixels, [photo.instances for photo in photos.values()])
        report = {
            "dataset": self.dataset_name,
            "photos": len(pixels),
            "crack_free_photos": sum(counts.true == 0 for counts in pixels),
            "score_threshold": self._cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD,
            "metrics": results["crack"],
            **{task: values for task, values in results.items() if task not in ("crack", "width")},
            "by_width_px": {
                name: {"share_of_true": share, "found": recall}
                for name, (share, recall) in widths.items()
            },
        }
        document = json.dumps(report, indent=2, allow_nan=False).encode()
        for name, data in (("crack_per_photo.csv", table), ("crack_metrics.json", document)):
            with atomic_write(os.path.join(self._output_dir, name)) as file:
                file.write(data)
        lines = width_table(widths)
        logger.info("%s, true pixels by the crack's width:\n%s", self.dataset_name, lines)
        logger.info("Per-photo table and metrics are in %s", self._output_dir)


def evaluate_dataset(predictor: Predictor, dataset_name: str, cfg: CfgNode) -> Results:
    """Predict all photos of a data set as a user would, and compare them with its annotations.

    With several processes each takes every n-th photo. Returns what `CrackEvaluator.evaluate` does.

    Raises:
        CrackError: a photo cannot be read, or has another size than the data set says, or there
            is none.
    """
    evaluator = CrackEvaluator(dataset_name, cfg)
    records = evaluator.records[comm.get_rank() :: comm.get_world_size()]

    def predict(batch: Sequence[Record]) -> list[CrackPrediction]:
        return [predictor(read_photo_of(record)) for record in batch]

    return inference_on_dataset(predict, [[record] for record in records], evaluator)


def evaluate_datasets(predictor: Predictor, cfg: CfgNode) -> OrderedDict[str, Any]:
    """Evaluate on each set of DATASETS.TEST and log a Markdown table of them.

    Returns:
        of a single set what `evaluate_dataset` gives; of several that by name of the set and,
        beside it, the means of what all of them define. Empty in all processes but the first.
    """
    names = cfg.DATASETS.TEST
    results = OrderedDict((name, evaluate_dataset(predictor, name, cfg)) for name in names)
    if not comm.is_main_process():
        return OrderedDict()
    logger.info("Results:\n%s", markdown_table(results))
    if len(results) == 1:
        return results[names[0]]
    return OrderedDict(results, **_means(list(results.values())))


def true_instances(record: Record, ignored: BoolMask) -> Iterator[CrackInstance]:
    """A record's instances, one at a time, without ignored pixels; those with nothing else go."""
    for mask in instance_masks(record):
        if instance := CrackInstance.from_mask(1.0, mask & ~ignored):
            yield instance


def counted_instances(instances: Sequence[CrackInstance], ignored: BoolMask) -> list[CrackInstance]:
    """Predicted instances without ignored pixels; those that mostly consist of them go."""
    counted = []
    for instance in instances:
        x0, y0, x1, y1 = instance.box
        mask = instance.mask & ~ignored[y0:y1, x0:x1]
        if 2 * np.count_nonzero(mask) >= instance.area:
            counted.append(CrackInstance.from_mask(instance.score, mask, (x0, y0)))
    return list(filter(None, counted))


def folder_name(dataset_name: str) -> str:
    """A data set's name, which may be a path, as the name of one folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", dataset_name.removesuffix(".json")).strip("_")


def _metrics(photos: Sequence[PhotoResult], widths: dict[str, tuple[float, float]]) -> Results:
    encoded = {name: [photo.encoded[name] for photo in photos] for name in DEFINITIONS}
    results: Results = OrderedDict()
    for kind in ("bbox", "segm"):
        if values := average_precision(encoded["own"], kind):
            results[kind] = values
    results["crack"] = summarize([photo.pixels for photo in photos])
    results["instances"] = summarize_instances([photo.instances for photo in photos])
    for name in DEFINITIONS[1:]:
        if values := average_precision(encoded[name], "segm"):
            results["instances"][f"AP50_{name}"] = values["AP50"]
    results["width"] = {name: found for name, (_, found) in widths.items()}
    return results


def _means(results: Sequence[Results]) -> dict[str, dict[str, float]]:
    """Means over data sets of each metric that all of them have."""
    means: dict[str, dict[str, float]] = {}
    for task, first in results[0].items():
        others = [result.get(task, {}) for result in results]
        shared = [name for name in first if all(name in other for other in others)]
        if shared:
            means[task] = {name: sum(o[name] for o in others) / len(others) for name in shared}
    return means
