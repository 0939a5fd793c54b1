"""Draws training crops: where, how large, how turned and in which light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from detectron2.config import CfgNode

# What the models' pixel mean makes zero, like the padding of a batch.
MEAN_BGR = (104.0, 116.0, 124.0)


@dataclass(frozen=True)
class CropPlan:
    """One draw of the geometry.

    Attributes:
        scale: factor on the photo's size.
        degrees: rotation about the crop's centre, counter-clockwise.
        turns: quarter turns, 0 to 3.
        flip: mirror left and right.
        centre: (x, y) of the crop's centre in the photo, px.
        size: side of the square crop, px.
        reflect: fill what lies outside the photo with its mirror image, else with `MEAN_BGR`.
    """

    scale: float
    degrees: float
    turns: int
    flip: bool
    centre: tuple[float, float]
    size: int
    reflect: bool

    def matrix(self) -> np.ndarray:
        """The 2x3 affine map from photo to crop pixels."""
        angle = np.deg2rad(self.degrees + 90 * self.turns)
        cos, sin = self.scale * np.cos(angle), self.scale * np.sin(angle)
        linear = np.array([[cos, sin], [-sin, cos]])
        if self.flip:
            linear[0] *= -1
        middle = np.full(2, (self.size - 1) / 2)
        return np.column_stack([linear, middle - linear @ np.array(self.centre)])


def crop_photo(image: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the crop out of a (H, W, 3) uint8 photo: (size, size, 3)."""
    image, matrix = _shrink(image, plan)
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_CONSTANT
    return _warp(image, matrix, plan.size, border, MEAN_BGR)


def crop_mask(mask: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the same crop out of a (H, W) uint8 mask of 0 and 1.

    Returns:
        (size, size) uint8, how much of each pixel is crack, 0 to 255.
    """
    soft, matrix = _shrink(mask * np.uint8(255), plan)
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_CONSTANT
    return _warp(soft, matrix, plan.size, border, 0.0)


def crop_labels(labels: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the same crop out of a (H, W) int16 label map: for each pixel the nearest label.

    Returns:
        (size, size) int16 without background: `crop_mask` says which pixels are crack.
    """
    if labels.max() == labels[labels > 0].min(initial=labels.max()):
        return np.full((plan.size, plan.size), labels.max(), np.int16)
    _, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(nearest.max()) + 1, np.int16)
    table[nearest[labels > 0]] = labels[labels > 0]
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_REPLICATE
    return cv2.warpAffine(
        table[nearest],
        plan.matrix(),
        (plan.size, plan.size),
        flags=cv2.INTER_NEAREST,
        borderMode=border,
    )


def _shrink(image: np.ndarray, plan: CropPlan) -> tuple[np.ndarray, np.ndarray]:
    """Average pixels before a warp that makes the photo smaller: a warp alone would skip some."""
    matrix = plan.matrix()
    if plan.scale >= 0.9:
        return image, matrix
    height, width = image.shape[:2]
    size = (max(1, round(width * plan.scale)), max(1, round(height * plan.scale)))
    ratio = np.array([size[0] / width, size[1] / height])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    linear = matrix[:, :2] / ratio
    # Pixel centres: photo x = (small x + 0.5) / ratio - 0.5.
    shift = matrix[:, 2] + matrix[:, :2] @ (0.5 / ratio - 0.5)
    return small, np.column_stack([linear, shift])


def _warp(
    image: np.ndarray, matrix: np.ndarray, size: int, border: int, fill: float | tuple[float, ...]
) -> np.ndarray:
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill
    )


def change_light(image: np.ndarray, rng: np.random.Generator, cfg: CfgNode) -> np.ndarray:
    """Change brightness, contrast and saturation of a (H, W, 3) uint8 photo.

    Args:
        image: BGR or RGB.
        rng: source of all randomness.
        cfg: the CRACK.AUG node.
    """
    gain = 1 + rng.uniform(-cfg.CONTRAST, cfg.CONTRAST)
    offset = 255 * rng.uniform(-cfg.BRIGHTNESS, cfg.BRIGHTNESS) / 2
    mean = float(image.mean())
    levels = (np.arange(256) - mean) * gain + mean + offset
    image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8))
    colour = 1 + rng.uniform(-cfg.SATURATION, cfg.SATURATION)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, colour, grey, 1 - colour, 0)


def degrade(image: np.ndarray, rng: np.random.Generator, cfg: CfgNode) -> np.ndarray:
    """Cast a shadow, blur, add noise and compress, each with its own probability."""
    steps = (
        (cfg.SHADOW_PROB, cast_shadow),
        (cfg.BLUR_PROB, blur),
        (cfg.NOISE_PROB, add_noise),
        (cfg.JPEG_PROB, compress),
    )
    for probability, step in steps:
        if rng.random() < probability:
            image = step(image, rng)
    return image


def cast_shadow(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken one side of a random line, with an edge between hard and soft."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
    softness = np.exp(rng.uniform(np.log(1.5), np.log(40)))
    columns = (np.arange(width, dtype=np.float32) - x) * np.float32(np.cos(angle))
    rows = (np.arange(height, dtype=np.float32) - y) * np.float32(np.sin(angle))
    lit = np.clip((columns + rows[:, None]) / np.float32(softness) + 0.5, 0, 1)
    darkest = rng.uniform(0.4, 0.8)
    gain = cv2.cvtColor((darkest + (1 - darkest) * lit).astype(np.float32), cv2.COLOR_GRAY2BGR)
    return cv2.multiply(image, gain, dtype=cv2.CV_8U)


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur with a standard deviation of 0.4 to 1.5 px."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey sensor noise with a standard deviation of 3 to 15 grey levels."""
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32)
    noise *= np.float32(rng.uniform(3, 15))
    return cv2.add(image, cv2.cvtColor(noise, cv2.COLOR_GRAY2BGR), dtype=cv2.CV_8U)


def compress(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG artefacts of quality 25 to 85."""
    quality = int(rng.integers(25, 86))
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


class CrackAugmentation:
    """Random crop, scale, rotation, flip and light, as CRACK.AUG says."""

    def __init__(self, cfg: CfgNode) -> None:
        """Args: cfg: the whole config; CRACK.AUG is read."""
        self.cfg = cfg.CRACK.AUG

    def crop_photo(self, image: np.ndarray, plan: CropPlan, rng: np.random.Generator) -> np.ndarray:
        """Cut a crop out of a photo, (H, W, 3) uint8, and change its light and quality.

        Returns:
            (CROP_SIZE, CROP_SIZE, 3) uint8.
        """
        return degrade(change_light(crop_photo(image, plan), rng, self.cfg), rng, self.cfg)

    def draw_plan(self, mask: np.ndarray, rng: np.random.Generator) -> CropPlan:
        """Draw the geometry for a photo with this (H, W) mask."""
        cfg = self.cfg
        low, high = cfg.SCALE
        scale = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        rotate = rng.random() < cfg.ROTATE_PROB
        return CropPlan(
            scale=scale,
            degrees=float(rng.uniform(-1, 1) * cfg.ROTATE_DEGREES) if rotate else 0.0,
            turns=int(rng.integers(4)),
            flip=bool(rng.random() < 0.5),
            centre=self._draw_centre(mask, cfg.CROP_SIZE / scale, rng),
            size=cfg.CROP_SIZE,
            reflect=bool(rng.random() < 0.7),
        )

    def _draw_centre(
        self, mask: np.ndarray, side: float, rng: np.random.Generator
    ) -> tuple[float, float]:
        """Centre (x, y) of a crop that covers ``side`` px of the photo."""
        height, width = mask.shape
        on_crack = rng.random() < self.cfg.CRACK_CROP_PROB
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        pixels = np.flatnonzero(mask) if on_crack else np.empty(0)
        if len(pixels):
            y, x = divmod(int(pixels[rng.integers(len(pixels))]), width)
            # Anywhere in the crop but its outermost tenth, so that cracks are not always central.
            x += rng.uniform(-0.4, 0.4) * side
            y += rng.uniform(-0.4, 0.4) * side
        return _keep_inside(x, width, side), _keep_inside(y, height, side)


def _keep_inside(centre: float, length: int, side: float) -> float:
    """Move a crop's centre so that it leaves the photo only where the photo is smaller."""
    if side >= length:
        # The photo lies anywhere in the crop, which then shows all of it.
        low, high = length - side / 2, side / 2
    else:
        low, high = side / 2, length - side / 2
    return float(np.clip(centre, low, high)) - 0.5
