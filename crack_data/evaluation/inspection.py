"""Photos of a dataset with their ground truth and prediction, for a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..photos import read_photo
from .contact_sheet import Picture, Strip
from .ground_truth import GroundTruth
from .pixel_metrics import BoolMask


def inspection_strips(
    dataset_name: str, predict: Callable[[Picture], BoolMask], photos: int = 30
) -> Iterator[Strip]:
    """Predict photos spread evenly over a dataset, one at a time.

    Args:
        dataset_name: a name in DatasetCatalog.
        predict: a photo, BGR uint8 (H, W, 3), to its drawn mask, bool (H, W).
        photos: how many, or all where there are fewer.

    Yields:
        Strips titled with file name, F1 and coverage, true and predicted.

    Raises:
        PhotoError: a photo cannot be read.
    """
    truth = GroundTruth(dataset_name)
    records = truth.records()
    chosen = np.unique(np.linspace(0, len(records) - 1, photos).round().astype(int))
    for record in (records[index] for index in chosen):
        photo = read_photo(record["file_name"])
        mask, true_mask = predict(photo), truth.mask(record["image_id"])
        yield Strip(photo, true_mask, mask, _title(record["file_name"], true_mask, mask))


def _title(file_name: str, truth: BoolMask, mask: BoolMask) -> str:
    name = file_name.replace("\\", "/").rpartition("/")[2]
    coverage = f"{100 * truth.mean():.2f} % true, {100 * mask.mean():.2f} % predicted"
    if not truth.any():
        return f"{name}: no crack; {coverage}"
    f1 = 2 * np.count_nonzero(truth & mask) / (truth.sum() + mask.sum())
    return f"{name}: F1 {f1:.2f}; {coverage}"
