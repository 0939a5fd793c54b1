"""One drawn photo: ground, paint, joints, stains, cracks, leaves, light, camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import CrackError
from .arrays import ByteImage, FloatImage
from .cracks import CrackLayer, draw_cracks, random_cracks
from .distractors import cast_shadow, cut_joint, drop_leaves, paint_lane, spill
from .texture import asphalt, concrete, value_noise

Change = Callable[[np.random.Generator, FloatImage], None]

MIN_SIDE = 32  # px
CRACK_FREE_SHARE = 0.12


@dataclass(frozen=True)
class SyntheticPhoto:
    """A drawn photo and what it shows.

    Attributes:
        image: HxWx3 uint8, BGR.
        mask: HxW uint8, 255 where a crack is visible, else 0; exact.
    """

    image: ByteImage
    mask: ByteImage


def draw_photo(index: int, seed: int = 0, height: int = 320, width: int = 480) -> SyntheticPhoto:
    """Draw photo number ``index`` of the series ``seed``, whatever others are drawn.

    About one photo in eight shows distractors only.

    Raises:
        CrackError: a side is shorter than `MIN_SIDE`.
    """
    if min(height, width) < MIN_SIDE:
        raise CrackError(
            f"synthetic photos have sides of {MIN_SIDE} px or more, not {width}x{height}"
        )
    rng = np.random.default_rng([seed, index])
    shape = (height, width)
    photo = _ground(rng, shape)
    _perhaps(rng, 0.12, paint_lane, photo)
    _perhaps(rng, 0.15, cut_joint, photo)
    _perhaps(rng, 0.4, spill, photo)
    mask = np.zeros(shape, np.uint8)
    if rng.random() >= CRACK_FREE_SHARE:
        layer = draw_cracks(random_cracks(rng, shape), shape)
        _open_cracks(rng, photo, layer)
        mask = layer.mask
    if rng.random() < 0.15:
        drop_leaves(rng, photo, mask)
    _perhaps(rng, 0.2, cast_shadow, photo)
    return SyntheticPhoto(_exposed(rng, photo), mask)


def _perhaps(
    rng: np.random.Generator, probability: float, change: Change, photo: FloatImage
) -> None:
    if rng.random() < probability:
        change(rng, photo)


def _ground(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    brightness = asphalt(rng, shape) if rng.random() < 0.6 else concrete(rng, shape)
    tint = 1 + rng.normal(0, 0.012, 3) + rng.normal(0, 0.05) * np.array([1, 0, -1])
    photo = brightness[..., None] * tint.astype(np.float32)
    hue = 0.005 * value_noise(rng, shape, 100, octaves=3)
    photo[..., 0] += hue
    photo[..., 2] -= hue
    return photo


def _open_cracks(rng: np.random.Generator, photo: FloatImage, layer: CrackLayer) -> None:
    """Darken the photo where cracks are; their rims catch light or gather dirt."""
    rim = cv2.GaussianBlur(layer.darkness, (0, 0), rng.uniform(1.2, 3.5))
    rim = np.roll(rim, rng.integers(-2, 3, 2), axis=(0, 1)) * (1 - layer.darkness)
    photo *= (1 + rng.uniform(-0.3, 0.25) * rim)[..., None]
    depth = layer.darkness * (1 + rng.uniform(0.1, 0.3) * value_noise(rng, layer.mask.shape, 3))
    photo *= 1 - np.clip(depth, 0, 1)[..., None]


def _exposed(rng: np.random.Generator, photo: FloatImage) -> ByteImage:
    """What the camera makes of it: vignette or uneven light, blur, noise, 8 bit."""
    shape = photo.shape[:2]
    light = 1 + rng.uniform(0.0, 0.1) * value_noise(rng, shape, 2.0 * max(shape))
    photo = photo * light[..., None]
    if rng.random() < 0.6:
        photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.3, 1.0))
    noise = np.empty(shape, np.int16)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise, 0, rng.uniform(0.5, 5))
    return np.clip(photo * 255 + noise[..., None], 0, 255).astype(np.uint8)
