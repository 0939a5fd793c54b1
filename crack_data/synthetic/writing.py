"""Drawn photos and masks as files, in the layout of a real data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ..files import atomic_write
from .arrays import ByteImage
from .mask_noise import noisy_mask
from .photo import draw_photo


def write_photos(
    folder: str | os.PathLike[str],
    count: int,
    seed: int = 0,
    height: int = 320,
    width: int = 480,
    noise: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``images/drawn_00000.jpg`` … and ``masks/drawn_00000.png`` … into a folder.

    Args:
        folder: made where missing; files of the same names are replaced.
        count: number of photos.
        seed: of the series; see `draw_photo`.
        height, width: of each photo, px.
        noise: give the masks the faults of real ones instead of exact masks.
        progress: called with the number of photos done and of all.

    Raises:
        CrackError: the size is too small, or the folder cannot be written to.
    """
    for index in range(count):
        photo = draw_photo(index, seed, height, width)
        mask = photo.mask
        if noise:
            # The third number keeps this stream apart from the photo's own.
            mask = noisy_mask(mask, np.random.default_rng([seed, index, 1]))
        name = f"drawn_{index:05d}"
        _write(Path(folder, "images", f"{name}.jpg"), photo.image)
        _write(Path(folder, "masks", f"{name}.png"), mask)
        if progress:
            progress(index + 1, count)


def _write(path: Path, image: ByteImage) -> None:
    _, data = cv2.imencode(path.suffix, image)
    with atomic_write(path) as stream:
        stream.write(data.tobytes())
