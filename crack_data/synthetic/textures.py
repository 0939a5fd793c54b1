"""Grounds without cracks, drawn from noise: asphalt, gravel concrete, concrete, plaster."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
ByteImage = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]  # Nx2, (x, y) in px
Light = tuple[float, float]  # (x, y) towards where the light comes from
SUBPIXEL_BITS = 4  # OpenCV's drawing functions take coordinates in 1/16 px


def unit_variance(image: FloatImage) -> FloatImage:
    """Shift and scale to mean 0 and variance 1; a constant image becomes 0."""
    mean, deviation = cv2.meanStdDev(image)
    return (image - np.float32(mean[0, 0])) / np.float32(max(deviation[0, 0], 1e-6))


def smoothstep(values: FloatImage, low: float, high: float) -> FloatImage:
    """0 below ``low``, 1 above ``high``, a smooth ramp between."""
    ramp = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def fixed_point(points: Points) -> npt.NDArray[np.int32]:
    """Coordinates for OpenCV's drawing functions with ``shift=SUBPIXEL_BITS``."""
    return np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32).reshape(-1, 1, 2)


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


def white_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float = 0) -> FloatImage:
    """Independent normal numbers, HxW, blurred by ``sigma`` px; mean 0, variance 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    return unit_variance(cv2.GaussianBlur(noise, (0, 0), sigma)) if sigma else noise


def relief(bumps: FloatImage, light: Light, reach: float = 1) -> FloatImage:
    """Brightness of a bumpy surface, HxW of mean 0 and variance 1, lit from (x, y) ``light``."""
    move = np.array([[1, 0, light[0] * reach], [0, 1, light[1] * reach]])
    size = bumps.shape[1], bumps.shape[0]
    behind = cv2.warpAffine(bumps, move, size, borderMode=cv2.BORDER_REFLECT)
    return unit_variance(bumps - behind)


def tinted(rng: np.random.Generator, brightness: FloatImage, warmth: float = 0.0) -> FloatImage:
    """Colour a brightness, HxW, slightly: HxWx3 BGR; ``warmth`` from -1 (blue) to 1 (orange)."""
    turn = 0.3 * warmth + np.clip(rng.normal(0, 0.03), -0.05, 0.1)
    tint = (1 + rng.normal(0, 0.012, 3) + turn * np.array([-1, 0, 1])).astype(np.float32)
    hue = 0.006 * value_noise(rng, brightness.shape[:2], 100, octaves=3)
    return np.asarray(
        cv2.merge([brightness * tint[0] + hue, brightness * tint[1], brightness * tint[2] - hue])
    )


def asphalt(rng: np.random.Generator, shape: tuple[int, int], light: Light) -> FloatImage:
    """Stones in bitumen, HxWx3, about 0 to 1."""
    grain = rng.uniform(0.45, 1.6)  # px
    bumps = white_noise(rng, shape, grain)
    base = rng.uniform(0.28, 0.6)
    ground = base * (1 + 0.05 * value_noise(rng, shape, 160, octaves=4))
    ground += rng.uniform(0.02, 0.07) * base * 2 * relief(bumps, light, grain)
    ground += rng.uniform(0.01, 0.06) * white_noise(rng, shape)
    rarity = rng.uniform(1.2, 2.4)  # standard deviations
    stones = smoothstep(white_noise(rng, shape, grain * 1.6), rarity, rarity + 0.5)
    ground += rng.uniform(0.0, 0.22) * stones * (0.6 + 0.4 * value_noise(rng, shape, grain * 8))
    ground -= rng.uniform(0.0, 0.25) * smoothstep(-bumps, 1.8, 3.0)  # pits between the stones
    return tinted(rng, ground)


def gravel(rng: np.random.Generator, shape: tuple[int, int], light: Light) -> FloatImage:
    """Worn asphalt or washed concrete seen close: stones of many colours, HxWx3."""
    height, width = shape
    base = rng.uniform(0.35, 0.62)
    ground = tinted(rng, base * (1 + 0.06 * value_noise(rng, shape, 120, octaves=4)))
    layer = np.clip(ground * 255, 0, 255).astype(np.uint8)
    size = rng.uniform(1.3, 5.0)
    count = int(min(rng.uniform(0.05, 0.2) * height * width / size**2, 6000))
    levels = base + rng.uniform(0.05, 0.16) * rng.standard_normal((count, 1))
    warmth = np.clip(rng.normal(0.02, 0.05, (count, 1)), -0.05, 0.3)
    warmth = np.where(rng.random((count, 1)) < 0.04, 0.35, warmth)  # now and then a rusty stone
    paints = np.clip(255 * levels * (1 + warmth * np.array([-1, 0.1, 1])), 0, 255).tolist()
    centres = (rng.random((count, 2)) * (width * 16, height * 16)).astype(int).tolist()
    axes = (rng.gamma(2.0, size / 2, (count, 2)) * 16 + 12).astype(int).tolist()
    angles = rng.uniform(0, 180, count).tolist()
    for centre, axis, angle, paint in zip(centres, axes, angles, paints, strict=True):
        cv2.ellipse(layer, centre, axis, angle, 0, 360, paint, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.4, 0.4 + 0.25 * size))
    ground = layer.astype(np.float32) / np.float32(255)
    bumps = cv2.cvtColor(ground, cv2.COLOR_BGR2GRAY) + 0.05 * white_noise(rng, shape, 0.8)
    shading = rng.uniform(0.01, 0.05) * relief(bumps, light, 1.5)
    shading += rng.uniform(0.01, 0.04) * white_noise(rng, shape)
    ground += shading[..., None]
    return ground


def concrete(rng: np.random.Generator, shape: tuple[int, int], light: Light) -> FloatImage:
    """Smooth mortar with cloudy patches, brush strokes and pores, HxWx3."""
    base = rng.uniform(0.42, 0.85)
    ground = base * (1 + rng.uniform(0.02, 0.07) * value_noise(rng, shape, 200, octaves=6))
    strokes = (2.0, 60.0) if rng.random() < 0.5 else (60.0, 2.0)
    ground += rng.uniform(0.0, 0.025) * value_noise(rng, shape, strokes)
    bumps = white_noise(rng, shape, rng.uniform(0.5, 1.5))
    ground += rng.uniform(0.003, 0.02) * relief(bumps, light)
    ground += rng.uniform(0.005, 0.03) * white_noise(rng, shape)
    if rng.random() < 0.5:
        ground *= 1 - _pores(rng, shape)
    return tinted(rng, ground, rng.uniform(-0.1, 0.25))


def plaster(rng: np.random.Generator, shape: tuple[int, int], light: Light) -> FloatImage:
    """A painted or rendered wall, sometimes rough, in a pale colour, HxWx3."""
    lumps = value_noise(rng, shape, rng.uniform(4, 30), octaves=3)
    ground = rng.uniform(0.5, 0.88) + 0.02 * value_noise(rng, shape, 250, octaves=4)
    ground += rng.uniform(0.005, 0.05) * relief(lumps, light, rng.uniform(1, 3))
    ground += rng.uniform(0.004, 0.02) * white_noise(rng, shape)
    colour = 1 + rng.uniform(-0.1, 0.03, 3).astype(np.float32)
    return tinted(rng, ground, rng.uniform(-0.1, 0.4)) * colour


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
