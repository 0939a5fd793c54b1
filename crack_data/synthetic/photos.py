"""Drawn photos: ground, joints, stains, cracks, shadows, camera; and their files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import trange

from ..annotations import info_of, read_json
from ..convert.coco import annotation, write_coco
from ..convert.pairing import PairRecord
from ..errors import CrackError
from ..files import atomic_write
from .cracks import random_cracks
from .masonry import Masonry, draw_masonry
from .rendering import cover_gaps, draw_cracks, open_cracks
from .textures import ByteImage, cast_shadow, draw_ground, expose, spill

MIN_SIDE, MAX_SIDE = 32, 8192  # px; photos are drawn in floats, several GB at the largest
_DESCRIPTION = "Drawn cracks"


@dataclass(frozen=True)
class SyntheticPhoto:
    """A drawn photo and what it shows."""

    image: ByteImage  # HxWx3, BGR
    instances: list[ByteImage]  # HxW each, 255 where that crack is visible; they may cross

    @property
    def mask(self) -> ByteImage:
        """HxW uint8, 255 where any crack is visible, else 0."""
        return np.max([np.zeros(self.image.shape[:2], np.uint8), *self.instances], axis=0)


def draw_photo(index: int, seed: int = 0, height: int = 320, width: int = 480) -> SyntheticPhoto:
    """Draw photo number ``index`` of the series ``seed``, whatever others are drawn."""
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        raise CrackError(
            f"drawn photos have sides of {MIN_SIDE} to {MAX_SIDE} px, not {width}x{height}"
        )
    rng = np.random.default_rng([seed, index])
    shape = (height, width)
    angle = rng.uniform(0, 2 * np.pi)
    light = (float(np.cos(angle)), float(np.sin(angle)))
    masonry = Masonry.random(rng, shape) if rng.random() < 0.2 else None
    photo = draw_masonry(rng, shape, light, masonry) if masonry else draw_ground(rng, shape, light)
    if rng.random() < 0.4:
        spill(rng, photo)
    instances: list[ByteImage] = []
    if rng.random() >= 0.2:  # the others show no crack
        cracks = random_cracks(rng, shape, masonry)
        layer = draw_cracks(cracks, shape)
        open_cracks(rng, photo, layer, light)
        cover_gaps(rng, photo, cracks)
        instances = layer.masks
    if rng.random() < 0.25:
        cast_shadow(rng, photo)
    return SyntheticPhoto(expose(rng, photo), instances)


def write_photos(
    folder: str | os.PathLike[str],
    count: int,
    seed: int = 0,
    height: int = 320,
    width: int = 480,
    noise: bool = False,
    instances: bool = False,
) -> None:
    """Write ``images/drawn_00000.jpg`` … and ``masks/drawn_00000.png`` … into a folder.

    ``noise`` gives masks the faults of real ones; ``instances`` adds ``instances.json``, COCO's
    annotations. An earlier series is replaced. A `CrackError` where the folder has a longer one, or
    annotations that are of none.
    """
    described = Path(folder, "instances.json")
    if described.exists() and info_of(read_json(described), "description") != _DESCRIPTION:
        raise CrackError(f"{described} is not of drawn photos; move it, or name another folder")
    if Path(folder, "images", f"drawn_{count:05d}.jpg").exists():
        raise CrackError(f"{folder} holds a longer series; remove it, or name another folder")
    records = []
    for index in trange(count, unit=" photos", leave=False, disable=None):
        photo = draw_photo(index, seed, height, width)
        described.unlink(missing_ok=True)  # it is of the photos that are replaced now
        mask = photo.mask
        if noise:  # the third number keeps this stream apart from the photo's own
            mask = noisy_mask(mask, np.random.default_rng([seed, index, 1]))
        name = f"drawn_{index:05d}"
        for path, picture in ((f"images/{name}.jpg", photo.image), (f"masks/{name}.png", mask)):
            with atomic_write(Path(folder, path)) as stream:
                stream.write(cv2.imencode(path[-4:], picture)[1].tobytes())
        record = PairRecord(name, f"{name}.jpg", width=width, height=height)
        for instance in photo.instances:
            x, y, w, h = cv2.boundingRect(instance)
            part = instance[y : y + h, x : x + w] // 255
            record.annotations.append(annotation(part, x, y, instance.shape, "rle"))
        records.append(record)
    if instances:
        with atomic_write(described) as stream:
            write_coco(stream, records, {"description": _DESCRIPTION, "image_root": "images"})


def noisy_mask(mask: ByteImage, rng: np.random.Generator) -> ByteImage:
    """Widen, antialias, speckle and JPEG-compress a mask, HxW of 0 or 255: HxW of 0 to 255."""
    if rng.random() < 0.4:
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 0.6))
    for _ in range(int(rng.integers(0, 25))):
        y, x = rng.integers(mask.shape[0]), rng.integers(mask.shape[1])
        speck = mask[y : y + rng.integers(1, 3), x : x + rng.integers(1, 3)]
        np.maximum(speck, rng.integers(150, 256), out=speck, casting="unsafe")
    quality = int(rng.integers(70, 96))
    _, data = cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
