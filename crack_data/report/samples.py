"""One line of the contact sheet: photo, mask as it came, mask as cleaned, instances."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..convert.cleaning import clean_mask
from ..convert.components import ByteMask
from ..convert.instances import label_instances
from ..convert.mask_files import read_mask
from ..convert.options import CleaningOptions
from ..convert.records import PairRecord
from ..photos import read_photo

MAX_SIDE = 420  # px
GOLDEN = 0.618034


@dataclass(frozen=True)
class Sample:
    """The pictures of a pair as ``data:`` URLs, at most `MAX_SIDE` px wide and high."""

    record: PairRecord
    photo: str
    raw: str
    cleaned: str
    components: str


def draw_sample(record: PairRecord, cleaning: CleaningOptions, single: bool) -> Sample:
    """Read a pair again and draw it.

    Args:
        record: of a pair that could be used.
        cleaning: how its mask is cleaned.
        single: all of the mask is one instance.

    Raises:
        CrackError: a file cannot be read any more.
    """
    photo = read_photo(record.photo)
    raw = read_mask(record.mask)
    height, width = photo.shape[:2]
    if raw.shape != (height, width):
        raw = _array(cv2.resize(raw, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    cleaned = clean_mask(raw, cleaning)
    labels = cleaned if single else label_instances(cleaned, cleaning)[1]
    return Sample(
        record=record,
        photo=_url(_small(photo), ".jpg"),
        raw=_url(_small_mask(raw), ".png"),
        cleaned=_url(_small_mask(cleaned * np.uint8(255)), ".png"),
        components=_url(_coloured(photo, labels), ".jpg"),
    )


def _coloured(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The photo, dimmed, with each instance in a colour of its own and thick enough to see."""
    height, width = photo.shape[:2]
    radius = max(height, width) // MAX_SIDE + 1
    kernel = np.ones((2 * radius - 1,) * 2, np.uint8)
    grown = cv2.dilate(labels.astype(np.float32), kernel).astype(np.int32)
    colours = _palette(int(labels.max(initial=0)))
    dim = photo // 3
    return _small(np.where(grown[..., None] > 0, colours[grown], dim))


def _palette(count: int) -> np.ndarray:
    """``count`` + 1 BGR colours of neighbouring labels far apart in hue; number 0 is not used."""
    hues = (np.arange(count + 1) * GOLDEN % 1 * 180).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], axis=-1)
    return _array(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR))[0]


def _small_mask(mask: ByteMask) -> np.ndarray:
    """A mask scaled down so that thin lines stay visible: the brightest of the pixels merged."""
    factor = -(-max(mask.shape) // MAX_SIDE)
    return _small(_array(cv2.dilate(mask, np.ones((factor, factor), np.uint8))))


def _small(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, MAX_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return _array(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _url(image: np.ndarray, suffix: str) -> str:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 82] if suffix == ".jpg" else []
    _, data = cv2.imencode(suffix, image, quality)
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def _array(image: Any) -> np.ndarray:
    return np.asarray(image)
