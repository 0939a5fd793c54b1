"""Photos per second of a large photo in tiles, against the same pixels as small photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from crack_data.inference.predictor import CrackPredictor
from crack_data.photos import read_photo

from .rows import Row

_HEIGHT, _WIDTH = 3000, 4000
_ROUNDS = 2


def measure_tiling(row: Row, photos: Sequence[str]) -> dict[str, float]:
    """Predict a photo of 4000x3000 px, laid out of small ones, and those by themselves, in turns.

    Args:
        row: the model.
        photos: paths of photos small enough to need no tiles.

    Returns:
        seconds for the large photo, for as many pixels in small photos, and the ratio.

    Raises:
        CrackError: a photo or the checkpoint cannot be used.
    """
    images = [read_photo(path) for path in photos]
    large = lay_out(images, _HEIGHT, _WIDTH)
    predictor = CrackPredictor(row.cfg)
    share = large.shape[0] * large.shape[1] / sum(x.shape[0] * x.shape[1] for x in images)

    def predict_small() -> None:
        for image in images:
            predictor(image)

    predict_small()
    predictor(large)
    times = np.array(
        [[_seconds(lambda: predictor(large)), _seconds(predict_small)] for _ in range(_ROUNDS)]
    )
    tiled, small = (float(x) for x in times.mean(axis=0))
    return {
        "4000x3000 px in tiles, s": tiled,
        "as many pixels in small photos, s": small * share,
        "photos/s of the tiles against small photos": small * share / tiled,
    }


def lay_out(images: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """One photo, (height, width, 3), filled with ``images`` in rows, each cut to the first's size.

    Photos smaller than the first leave black.
    """
    large = np.zeros((height, width, 3), np.uint8)
    rows, columns = images[0].shape[:2]
    places = [(y, x) for y in range(0, height, rows) for x in range(0, width, columns)]
    for index, (y, x) in enumerate(places):
        image = images[index % len(images)][: min(rows, height - y), : min(columns, width - x)]
        large[y : y + image.shape[0], x : x + image.shape[1]] = image
    return large


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
