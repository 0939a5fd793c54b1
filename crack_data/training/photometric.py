"""Changes of light and image quality that a crack survives."""

from __future__ import annotations

import cv2
import numpy as np
from detectron2.config import CfgNode


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
