"""Draws one training crop of a photo: where, how large, how turned and in which light."""

from __future__ import annotations

import numpy as np
from detectron2.config import CfgNode

from .geometry import CropPlan, crop_photo
from .photometric import change_light, degrade


class CrackAugmentation:
    """Random crop, scale, rotation, flip and light, as CRACK.AUG says."""

    def __init__(self, cfg: CfgNode) -> None:
        """Args: cfg: the whole config; CRACK.AUG is read."""
        self.cfg = cfg.CRACK.AUG

    def crop_photo(
        self, image: np.ndarray, plan: CropPlan, rng: np.random.Generator
    ) -> np.ndarray:
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
