"""Draws training crops: where, how large, how turned and in which light."""

from dataclasses import dataclass

import cv2
import numpy as np
from detectron2.config import CfgNode

from ..synthetic.textures import log_uniform, rotated_grid

# What the models' pixel mean makes zero, like the padding of a batch.
MEAN_BGR = (104.0, 116.0, 124.0)


@dataclass(frozen=True)
class CropPlan:
    """One draw of the geometry."""

    scale: float  # factor on the photo's size
    degrees: float  # rotation about the crop's centre, counter-clockwise
    flip: bool  # mirror left and right
    centre: tuple[float, float]  # (x, y) of the crop's centre in the photo, px
    size: int  # side of the square crop, px
    reflect: bool  # fill what lies outside the photo with its mirror image, else with `MEAN_BGR`

    def matrix(self) -> np.ndarray:
        """The 2x3 affine map from photo to crop pixels."""
        linear = cv2.getRotationMatrix2D((0, 0), self.degrees, self.scale)[:, :2]
        if self.flip:
            linear[0] *= -1
        return np.column_stack([linear, (self.size - 1) / 2 - linear @ self.centre])


def draw_plan(mask: np.ndarray, rng: np.random.Generator, cfg: CfgNode) -> CropPlan:
    """Draw the geometry, as CRACK.AUG, ``cfg``, says, for a photo with this (H, W) mask."""
    scale = log_uniform(rng, *cfg.SCALE)
    rotate = rng.random() < cfg.ROTATE_PROB
    degrees = float(rng.uniform(-1, 1) * cfg.ROTATE_DEGREES) if rotate else 0.0
    degrees += 90 * int(rng.integers(4))
    flip = bool(rng.random() < 0.5)
    on_crack = rng.random() < cfg.CRACK_CROP_PROB
    size = np.array(mask.shape[::-1])  # width, height
    side = cfg.CROP_SIZE / scale  # that the crop covers of the photo, px
    centre = rng.uniform(0, size)
    pixels = np.flatnonzero(mask) if on_crack else np.empty(0)
    if len(pixels):
        row, column = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
        # Anywhere in the crop but its outermost tenth, so that cracks are not always central.
        centre = np.array([column, row]) + rng.uniform(-0.4, 0.4, 2) * side
    # It leaves the photo only where that is smaller, and lies anywhere in a crop that shows it all.
    low, high = np.sort([np.full(2, side / 2), size - side / 2], axis=0)
    x, y = (np.clip(centre, low, high) - 0.5).tolist()
    return CropPlan(scale, degrees, flip, (x, y), cfg.CROP_SIZE, bool(rng.random() < 0.7))


def crop_photo(
    image: np.ndarray, plan: CropPlan, fill: float | tuple[float, ...] = MEAN_BGR
) -> np.ndarray:
    """Cut the crop out of a uint8 photo, (H, W, 3), or mask, (H, W): (size, size, …)."""
    matrix = plan.matrix()
    if plan.scale < 0.9:
        # Average pixels first: a warp that makes the photo smaller would skip some.
        height, width = image.shape[:2]
        size = (max(1, round(width * plan.scale)), max(1, round(height * plan.scale)))
        ratio = np.array([size[0] / width, size[1] / height])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # Pixel centres: photo x = (small x + 0.5) / ratio - 0.5.
        shift = matrix[:, 2] + matrix[:, :2] @ (0.5 / ratio - 0.5)
        matrix = np.column_stack([matrix[:, :2] / ratio, shift])
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_CONSTANT
    size = (plan.size, plan.size)
    return cv2.warpAffine(image, matrix, size, borderMode=border, borderValue=fill)


def crop_mask(mask: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the same crop out of a (H, W) bool mask: uint8, how much of a pixel is in it x 255."""
    return crop_photo(mask * np.uint8(255), plan, fill=0.0)


def crop_labels(labels: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the same crop out of a (H, W) int16 label map: the nearest label of each pixel."""
    size = (plan.size, plan.size)
    if labels.max() == labels[labels > 0].min(initial=labels.max()):
        return np.full(size, labels.max(), np.int16)
    _, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(nearest.max()) + 1, np.int16)
    table[nearest[labels > 0]] = labels[labels > 0]
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_REPLICATE
    return cv2.warpAffine(
        table[nearest], plan.matrix(), size, flags=cv2.INTER_NEAREST, borderMode=border
    )


def change_light(image: np.ndarray, rng: np.random.Generator, cfg: CfgNode) -> np.ndarray:
    """Change brightness, contrast and saturation of a (H, W, 3) uint8 photo; ``cfg``: CRACK.AUG."""
    gain = 1 + rng.uniform(-cfg.CONTRAST, cfg.CONTRAST)
    offset = 255 * rng.uniform(-cfg.BRIGHTNESS, cfg.BRIGHTNESS) / 2
    mean = float(image.mean())
    levels = (np.arange(256) - mean) * gain + mean + offset
    image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8))
    colour = 1 + rng.uniform(-cfg.SATURATION, cfg.SATURATION)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, colour, grey, 1 - colour, 0)


def degrade(image: np.ndarray, rng: np.random.Generator, cfg: CfgNode) -> np.ndarray:
    """Cast a shadow, blur, add noise and compress, each with its own probability of CRACK.AUG."""
    if rng.random() < cfg.SHADOW_PROB:
        image = cast_shadow(image, rng)
    if rng.random() < cfg.BLUR_PROB:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < cfg.NOISE_PROB:
        noise = rng.standard_normal(image.shape[:2], dtype=np.float32)
        noise *= np.float32(rng.uniform(3, 15))  # grey levels
        image = cv2.add(image, cv2.cvtColor(noise, cv2.COLOR_GRAY2BGR), dtype=cv2.CV_8U)
    if rng.random() < cfg.JPEG_PROB:
        quality = int(rng.integers(25, 86))
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return image


def cast_shadow(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken one side of a random line, with an edge between hard and soft."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    origin = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
    softness = log_uniform(rng, 1.5, 40)
    along, _ = rotated_grid((height, width), origin, angle)
    lit = np.clip(along / np.float32(softness) + 0.5, 0, 1)
    darkest = rng.uniform(0.4, 0.8)
    gain = cv2.cvtColor((darkest + (1 - darkest) * lit).astype(np.float32), cv2.COLOR_GRAY2BGR)
    return cv2.multiply(image, gain, dtype=cv2.CV_8U)
