"""Evaluation of a predictor on registered data sets: what is measured is what users get."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm

from ..datasets import folder_name, read_photo_of
from ..errors import CrackError
from ..inference.prediction import CrackInstance, CrackPrediction, Cracks
from ..segmentation import Record, ignored_pixels, instance_masks
from ..storage import write_bytes
from .average_precision import EncodedInstances, average_precision, encode_instances, paint_scores
from .instance_metrics import InstanceCounts, count_instances, summarize_instances
from .metrics import WIDTH_RANGES, BoolMask, PhotoCounts, count_photo, recall_by_width, summarize
from .tables import markdown_table, per_photo_csv

Predictor = Callable[[np.ndarray], CrackPrediction]
Results = dict[str, dict[str, float]]

logger = logging.getLogger("detectron2.crack_data.evaluation")


class PhotoResult(NamedTuple):
    """What is kept of one photo until the whole set is through, and sent between processes."""

    pixels: PhotoCounts
    instances: InstanceCounts
    encoded: dict[str, EncodedInstances]  # by definition of an instance


class CrackEvaluator(DatasetEvaluator):
    """Metrics of pixels and of instances of a test set, as defined in docs/evaluation.md."""

    def __init__(self, dataset_name: str, cfg: CfgNode) -> None:
        """Evaluate a data set of DatasetCatalog; files go to OUTPUT_DIR/inference/NAME."""
        self.dataset_name = dataset_name
        self.records: list[Record] = DatasetCatalog.get(dataset_name)
        self._by_id = {record["image_id"]: record for record in self.records}
        self._cfg = cfg
        self._photos: dict[Any, PhotoResult] = {}

    def reset(self) -> None:
        """Forget all photos."""
        self._photos = {}

    def process(self, inputs: Sequence[Record], outputs: Sequence[CrackPrediction]) -> None:
        """Compare predictions with the records that ``inputs`` name by their image_id."""
        for given, prediction in zip(inputs, outputs, strict=True):
            record = self._by_id[given["image_id"]]
            size = prediction.probability.shape
            ignored = ignored_pixels(record)
            truth = true_instances(record, ignored)
            drawn = counted_instances(prediction.instances, ignored)
            rejected = counted_instances(prediction.rejected, ignored)
            levels, keys = prediction.probability, self._cfg.MODEL
            if keys.META_ARCHITECTURE != "CrackRCNN":
                # Without a crack map: the best score of any instance, drawn or not.
                scores = paint_scores([*prediction.instances, *prediction.rejected], size)
                levels = np.rint(255 * scores).astype(np.uint8)
            self._photos[record["image_id"]] = PhotoResult(
                count_photo(paint_scores(truth, size) > 0, prediction.mask, levels, ignored),
                count_instances(truth, drawn),
                encode_instances(size, truth, drawn, rejected, keys.CRACK_MAP.LINK_GAP),
            )

    def evaluate(self) -> Results:
        """Metrics of all processes' photos, as {task: {name: value}}; written as files too.

        The tasks are bbox and segm (not for a set without cracks), crack, instances and width.
        Empty in all processes but the first. A `CrackError` where no photo has a pixel to count.
        """
        comm.synchronize()
        gathered = comm.gather(self._photos, dst=0)
        if not comm.is_main_process():
            return {}
        found = {image_id: photo for part in gathered for image_id, photo in part.items()}
        # In the data set's order, so that the intervals do not hang on the number of processes.
        counted = [x for x in self._by_id if x in found and found[x].pixels.area]
        if void := len(found) - len(counted):
            logger.warning(f"{void} photos of {self.dataset_name} are ignored wholly")
        if not counted:
            raise CrackError(f"data set {self.dataset_name} has no photos to evaluate on")
        photos = [found[image_id] for image_id in counted]
        results = _metrics(photos)
        self._write([self._by_id[image_id] for image_id in counted], photos, results)
        return results

    def _write(self, records: list[Record], photos: list[PhotoResult], results: Results) -> None:
        pixels = [photo.pixels for photo in photos]
        report = {
            "dataset": self.dataset_name,
            "photos": len(photos),
            "crack_free_photos": sum(counts.true == 0 for counts in pixels),
            "score_threshold": self._cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD,
            "threshold": self._cfg.MODEL.CRACK_MAP.THRESHOLD,
            "metrics": results["crack"],
            **{task: values for task, values in results.items() if task not in ("crack", "width")},
            "by_width_px": {
                name: {"share_of_true": share, "found": recall}
                for name, (share, recall) in recall_by_width(pixels).items()
            },
        }
        folder = Path(self._cfg.OUTPUT_DIR, "inference", folder_name(self.dataset_name))
        table = per_photo_csv(records, pixels, [x.instances for x in photos])
        write_bytes(folder / "crack_per_photo.csv", table)
        content = json.dumps(report, indent=2, allow_nan=False).encode()
        write_bytes(folder / "crack_metrics.json", content)
        logger.info(f"Per-photo table and metrics are in {folder}")


def evaluate_dataset(predictor: Predictor, dataset_name: str, cfg: CfgNode) -> Results:
    """Predict all photos of a data set as a user would: what `CrackEvaluator.evaluate` returns."""
    evaluator = CrackEvaluator(dataset_name, cfg)
    # Of several processes each takes every n-th photo.
    batches = [[x] for x in evaluator.records[comm.get_rank() :: comm.get_world_size()]]
    return inference_on_dataset(lambda x: [predictor(read_photo_of(x[0]))], batches, evaluator)


def evaluate_datasets(predictor: Predictor, cfg: CfgNode) -> dict[str, Any]:
    """Evaluate on each set of DATASETS.TEST and log a Markdown table of them.

    Returns of a single set what `evaluate_dataset` does; of several that by the set's name, and
    means of each metric that all of them have. Empty in all processes but the first.
    """
    names = cfg.DATASETS.TEST
    results = {name: evaluate_dataset(predictor, name, cfg) for name in names}
    if not comm.is_main_process():
        return {}
    logger.info("Results:\n%s", markdown_table(results))
    if len(results) == 1:
        return results[names[0]]
    means: Results = {}
    for task in results[names[0]]:
        each = [result.get(task, {}) for result in results.values()]
        shared = [name for name in each[0] if all(name in other for other in each)]
        if shared:
            means[task] = {name: sum(x[name] for x in each) / len(each) for name in shared}
    return {**results, **means}


def true_instances(record: Record, ignored: BoolMask) -> list[CrackInstance]:
    """A record's instances without ignored pixels; those with nothing else go."""
    cut = (CrackInstance.from_mask(1.0, mask & ~ignored) for mask in instance_masks(record))
    return [instance for instance in cut if instance]


def counted_instances(instances: Cracks, ignored: BoolMask) -> list[CrackInstance]:
    """Predicted instances without ignored pixels; those that mostly consist of them go."""
    counted = []
    for instance in instances:
        x0, y0, x1, y1 = instance.box
        mask = instance.mask & ~ignored[y0:y1, x0:x1]
        cut = CrackInstance.from_mask(instance.score, mask, (x0, y0))
        if cut and 2 * cut.area >= instance.area:
            counted.append(cut)
    return counted


def quality_names() -> list[str]:
    """TASK/NAME of every metric that an evaluation can have and that is better the higher it is."""
    mask = np.eye(32, dtype=bool)
    crack = [CrackInstance(1.0, (0, 0, 32, 32), mask)]
    encoded = encode_instances(mask.shape, crack, crack, [], 0)
    pixels = count_photo(mask, mask, mask.view(np.uint8))
    found = PhotoResult(pixels, count_instances(crack, crack), encoded)
    results = {**_metrics([found]), "width": WIDTH_RANGES}
    others = ("ods_threshold", "coverage_", "false_")  # errors, and a level
    names = [(task, name) for task, values in results.items() for name in values]
    return [f"{task}/{name}" for task, name in names if not name.startswith(others)]


def _metrics(photos: Sequence[PhotoResult]) -> Results:
    pixels = [photo.pixels for photo in photos]
    own = [photo.encoded["own"] for photo in photos]
    results: Results = {}
    for kind in ("bbox", "segm"):
        if values := average_precision(own, kind):
            results[kind] = values
    results["crack"] = summarize(pixels)
    results["instances"] = summarize_instances([photo.instances for photo in photos])
    for name in ("components", "linked", "single"):
        if values := average_precision([photo.encoded[name] for photo in photos], "segm"):
            results["instances"][f"AP50_{name}"] = values["AP50"]
    results["width"] = {name: found for name, (_, found) in recall_by_width(pixels).items()}
    return results
