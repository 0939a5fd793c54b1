"""Bare ground: grey asphalt and concrete, drawn from noise at several scales."""

from __future__ import annotations

import cv2
import numpy as np

from .arrays import SUBPIXEL_BITS, FloatImage, blurred, smoothstep, unit_variance


def value_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cell: float | tuple[float, float],
    octaves: int = 1,
) -> FloatImage:
    """Smooth noise: random values on a grid, interpolated, at ever finer grids (Perlin 1985).

    Args:
        rng: where the numbers come from.
        shape: (H, W) of the result, px.
        cell: grid spacing of the coarsest octave, px; or (vertical, horizontal) spacing.
        octaves: each halves the spacing and the amplitude.

    Returns:
        HxW, mean about 0, variance about 1.
    """
    height, width = shape
    cell_y, cell_x = cell if isinstance(cell, tuple) else (cell, cell)
    # Summed at the size that the finest octave needs: most of the time goes into scaling up.
    coarser = max(1, int(min(cell_y, cell_x) / 2 ** (octaves - 1) / 4))
    small = (max(2, width // coarser), max(2, height // coarser))
    total = np.zeros(small[::-1], np.float32)
    for octave in range(octaves):
        grid_shape = (
            max(2, round(height * 2**octave / cell_y) + 1),
            max(2, round(width * 2**octave / cell_x) + 1),
        )
        grid = rng.standard_normal(grid_shape, dtype=np.float32)
        total += cv2.resize(grid, small, interpolation=cv2.INTER_CUBIC) * 0.5**octave
    total = unit_variance(total)
    if coarser == 1:
        return total
    scaled: FloatImage = cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR)
    return scaled


def asphalt(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    """Stones in bitumen, lit from one side: HxW brightness, about 0 to 1."""
    grain = rng.uniform(0.45, 1.2)  # px
    bumps = blurred(rng.standard_normal(shape, dtype=np.float32), grain)
    relief = _lit_from_one_side(rng, bumps, round(grain))
    base = rng.uniform(0.32, 0.6)
    ground = base * (1 + 0.05 * value_noise(rng, shape, 160, octaves=4))
    ground += rng.uniform(0.02, 0.07) * base * 2 * relief
    ground += rng.uniform(0.01, 0.08) * rng.standard_normal(shape, dtype=np.float32)
    ground += rng.uniform(0.0, 0.22) * _stones(rng, shape, grain)
    ground -= rng.uniform(0.0, 0.25) * smoothstep(-bumps, 1.8, 3.0)  # pits between the stones
    return ground


def concrete(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    """Smooth mortar with cloudy patches, brush strokes and pores: HxW brightness, 0 to 1."""
    base = rng.uniform(0.45, 0.82)
    ground = base * (1 + rng.uniform(0.02, 0.07) * value_noise(rng, shape, 200, octaves=6))
    strokes = (2.0, 60.0) if rng.random() < 0.5 else (60.0, 2.0)
    ground += rng.uniform(0.0, 0.025) * value_noise(rng, shape, strokes)
    bumps = blurred(rng.standard_normal(shape, dtype=np.float32), rng.uniform(0.5, 1.5))
    ground += rng.uniform(0.003, 0.02) * _lit_from_one_side(rng, bumps, 1)
    ground += rng.uniform(0.005, 0.03) * rng.standard_normal(shape, dtype=np.float32)
    if rng.random() < 0.5:
        ground *= 1 - _pores(rng, shape)
    return ground


def _lit_from_one_side(rng: np.random.Generator, bumps: FloatImage, reach: int) -> FloatImage:
    steps = [(0, 1), (1, 1), (1, 0), (1, -1)]
    dy, dx = steps[rng.integers(len(steps))]
    reach = max(1, reach)
    slopes: FloatImage = bumps - np.roll(bumps, (dy * reach, dx * reach), axis=(0, 1))
    return unit_variance(slopes)


def _stones(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> FloatImage:
    shapes = blurred(rng.standard_normal(shape, dtype=np.float32), grain * rng.uniform(1.0, 2.2))
    rarity = rng.uniform(1.2, 2.4)  # standard deviations
    brightness = 0.6 + 0.4 * value_noise(rng, shape, grain * 8)
    return smoothstep(shapes, rarity, rarity + 0.5) * brightness


def _pores(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    height, width = shape
    pores = np.zeros(shape, np.uint8)
    for _ in range(int(rng.integers(5, 80))):
        centre = (int(rng.integers(width) * 16), int(rng.integers(height) * 16))
        axes = (rng.gamma(1.5, 0.9, size=2) * 16 + 8).astype(int)
        depth = int(rng.integers(60, 190))
        size = (int(axes[0]), int(axes[1]))
        cv2.ellipse(pores, centre, size, 0, 0, 360, depth, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return pores.astype(np.float32) / np.float32(255)
