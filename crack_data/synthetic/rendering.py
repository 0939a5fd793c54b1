"""Cracks as they look: their masks, thin dark lines, trenches with rubble, spalled rims, gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .cracks import Crack, normals_of
from .distractors import cover_gap
from .textures import ByteImage, FloatImage, Light, relief, smoothstep, tinted, value_noise

SCALE = 4  # cracks are drawn this many times larger, then averaged down
DEEP = 3.0  # px from the rim of a crack: from here on one sees into it


@dataclass(frozen=True)
class CrackLayer:
    """What cracks look like on a photo.

    Attributes:
        masks: HxW each, 0 or 255, one for each crack, which may cross: at least half of the pixel
            is crack, or the centreline crosses it.
        darkness: HxW, 0 to 1: share of the light that is lost, antialiased.
        coverage: HxW, 0 to 1: share of each pixel that is crack.
    """

    masks: list[ByteImage]
    darkness: FloatImage
    coverage: FloatImage


def draw_cracks(cracks: list[Crack], shape: tuple[int, int]) -> CrackLayer:
    """Draw cracks on an empty ground of (H, W) px."""
    darkness = np.zeros(shape, np.uint8)
    coverage = np.zeros(shape, np.uint8)
    masks = []
    for number in sorted({crack.number for crack in cracks}):
        branches = [crack for crack in cracks if crack.number == number]
        dark, covered, mask = _draw_one(branches, shape)
        darkness, coverage = np.maximum(darkness, dark), np.maximum(coverage, covered)
        if mask.any():
            masks.append(mask)
    return CrackLayer(
        masks,
        darkness.astype(np.float32) / np.float32(255),
        coverage.astype(np.float32) / np.float32(255),
    )


def _draw_one(
    branches: list[Crack], shape: tuple[int, int]
) -> tuple[ByteImage, ByteImage, ByteImage]:
    height, width = shape
    large = np.zeros((height * SCALE, width * SCALE), np.uint8)
    centreline = np.zeros(shape, np.uint8)
    for crack in branches:
        for quad, level in _quads(crack):
            cv2.fillConvexPoly(large, quad, level)
        corners = np.flatnonzero(np.diff(crack.visible)) + 1
        for line, seen in zip(
            np.split(crack.points, corners), np.split(crack.visible, corners), strict=True
        ):
            if seen[0]:
                points = np.rint(line).astype(np.int32).reshape(-1, 1, 2)
                cv2.polylines(centreline, [points], False, 255)
    darkness = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    np.minimum(large, 1, out=large)
    large *= 255
    covered = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    mask = np.where((covered >= 128) | (centreline > 0), np.uint8(255), np.uint8(0))
    return darkness, covered, mask


def _quads(crack: Crack) -> Iterator[tuple[npt.NDArray[np.int32], int]]:
    """Each stretch between two points as a quadrilateral in enlarged pixels, with its level."""
    # The wider a crack, the less its rims follow each turn of the centreline.
    smooth = 1 + 2 * int(min(crack.left.mean() + crack.right.mean(), len(crack.points) - 1) / 4)
    padded = np.pad(crack.points, ((smooth // 2, smooth // 2), (0, 0)), "edge")
    kernel = np.ones(smooth) / smooth
    even = np.stack([np.convolve(axis, kernel, "valid") for axis in padded.T], axis=1)
    normals = normals_of(np.gradient(even, axis=0))
    # The centre of enlarged pixel 0 lies at -0.5 + 0.5 / SCALE in pixels of the photo.
    centre = (crack.points + 0.5) * SCALE - 0.5
    left = centre + normals * crack.left[:, None] * SCALE
    right = centre - normals * crack.right[:, None] * SCALE
    quads = np.rint(np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1))
    levels = np.clip(np.rint(crack.darkness * 255), 1, 255).astype(int)
    seen = crack.visible[:-1] & crack.visible[1:]
    return zip(quads.astype(np.int32)[seen], levels[:-1][seen].tolist(), strict=True)


def open_cracks(
    rng: np.random.Generator, photo: FloatImage, layer: CrackLayer, light: Light
) -> None:
    """Draw the cracks: thin ones as dark lines, wide ones as trenches that one sees into."""
    shape = layer.coverage.shape
    inside = (layer.coverage >= 0.5).view(np.uint8)
    to_rim = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deep = smoothstep(to_rim, 0.5 * DEEP, 1.5 * DEEP) if to_rim.max() > DEEP else None
    if deep is not None and rng.random() < 0.5:
        _spall(rng, photo, inside, light)
    trench = None if deep is None else _trench(rng, photo, layer.coverage, to_rim, light)
    rim = cv2.GaussianBlur(layer.darkness, (0, 0), rng.uniform(1.2, 3.5))
    rim = np.roll(rim, rng.integers(-2, 3, 2), axis=(0, 1)) * (1 - layer.darkness)
    photo *= (1 + rng.uniform(-0.3, 0.25) * rim)[..., None]
    depth = layer.darkness * (1 + rng.uniform(0.1, 0.3) * value_noise(rng, shape, 3))
    photo *= 1 - np.clip(depth, 0, 1)[..., None]
    if trench is not None and deep is not None:
        photo += deep[..., None] * (trench - photo)


def _trench(
    rng: np.random.Generator,
    photo: FloatImage,
    coverage: FloatImage,
    to_rim: FloatImage,
    light: Light,
) -> FloatImage:
    """The inside of wide cracks, HxWx3: walls, a floor in shadow, rubble, dirt or leaves."""
    shape = coverage.shape
    half = float(to_rim.max())
    ground = photo.mean(axis=(0, 1))
    filled = rng.uniform(0, 1) ** 1.5 * min(1.0, half / 12)  # 0: deep and black, 1: full of dirt
    rubble = value_noise(rng, shape, rng.uniform(4, 12), octaves=3)
    floor = (rng.uniform(0.05, 0.2) + 0.4 * filled) * ground.mean() * (1 + 0.25 * rubble)
    floor += (0.02 + 0.12 * filled) * relief(rubble, light, 1.5)
    inner = tinted(rng, floor, rng.uniform(-0.1, 0.7))
    if filled > 0.35 and rng.random() < 0.5:
        _strew(rng, inner, half, ground)
    # Walls: what is near the rim is still lit, most where it faces the light.
    blurred = cv2.GaussianBlur(to_rim, (0, 0), 1.5)
    slope_x, slope_y = cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)
    steep = np.maximum(cv2.magnitude(slope_x, slope_y), 1e-3)
    facing = -(slope_x * np.float32(light[0]) + slope_y * np.float32(light[1])) / steep
    wall = np.exp(-to_rim / np.float32(rng.uniform(0.08, 0.45) * half + 1))
    lit = np.clip(0.35 + rng.uniform(0.1, 0.4) * facing + 0.08 * rubble, 0.05, 1)
    inner += (wall * lit)[..., None] * (photo * 0.8 - inner)
    # The rim towards the light throws its shadow inside.
    reach = rng.uniform(0.15, 1.0) * half
    move = np.array([[1, 0, -light[0] * reach], [0, 1, -light[1] * reach]])
    lid = cv2.warpAffine(1 - coverage, move, shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    shade = cv2.GaussianBlur(lid, (0, 0), 0.7 + 0.06 * reach)
    inner *= 1 - rng.uniform(0.2, 0.75) * shade[..., None]
    return np.clip(inner, 0.01, 1).astype(np.float32)


def _strew(rng: np.random.Generator, inner: FloatImage, half: float, ground: FloatImage) -> None:
    """Strew stones, twigs and bits of leaves over the floor of a crack, in place."""
    height, width = inner.shape[:2]
    layer = np.clip(inner * 255, 0, 255).astype(np.uint8)
    dead_leaves = rng.random() < 0.5
    for _ in range(int(rng.uniform(0.05, 0.3) * height * width / half**2) + 20):
        size = rng.uniform(0.1, 0.6) * half
        axes = (int(size * 16), int(size * (0.2 if dead_leaves else 0.7) * 16))
        level = rng.uniform(0.3, 1.1)
        colour = np.array([0.2, 0.4, 0.65]) if dead_leaves else ground
        centre = (int(rng.integers(width * 16)), int(rng.integers(height * 16)))
        angle = float(rng.uniform(0, 180))
        paint = np.clip(colour * level * 255, 0, 255).tolist()
        dark = np.clip(colour * level * 90, 0, 255).tolist()
        below = (centre[0] + int(size * 3), centre[1] + int(size * 3))
        cv2.ellipse(layer, below, axes, angle, 0, 360, dark, -1, cv2.LINE_AA, 4)
        cv2.ellipse(layer, centre, axes, angle, 0, 360, paint, -1, cv2.LINE_AA, 4)
    inner[:] = layer.astype(np.float32) / np.float32(255)


def _spall(rng: np.random.Generator, photo: FloatImage, inside: ByteImage, light: Light) -> None:
    """Break the surface off in patches along the rims, in place: rough, lighter or darker."""
    shape = inside.shape
    away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    reach = rng.uniform(3, max(4, 0.05 * max(shape)))
    patchy = value_noise(rng, shape, rng.uniform(15, 60), octaves=4)
    broken = smoothstep(reach * (0.4 * patchy + rng.uniform(-0.3, 0.4)) - away, -1, 1)
    rough = relief(value_noise(rng, shape, rng.uniform(4, 10), octaves=3), light, 1.5)
    move = np.array([[1, 0, 2 * light[0]], [0, 1, 2 * light[1]]])
    edge = cv2.GaussianBlur(broken, (0, 0), 1.0)
    step = edge - cv2.warpAffine(edge, move, shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    change = broken * (rng.uniform(-0.2, 0.15) + rng.uniform(0.03, 0.1) * rough)
    photo *= 1 + np.clip(change - rng.uniform(0.1, 0.4) * step, -0.5, 0.4)[..., None]


def cover_gaps(rng: np.random.Generator, photo: FloatImage, cracks: list[Crack]) -> None:
    """Lay sand or paint over some of the interruptions; others are healed or too faint to see."""
    for crack in cracks:
        gaps = np.flatnonzero(np.diff(np.concatenate([[1], crack.visible, [1]])))
        for start, stop in zip(gaps[::2], gaps[1::2], strict=True):
            kind = rng.choice(["none", "sand", "paint"])
            points = crack.points[start:stop]
            if kind != "none" and len(points) > 1:
                half = float(np.hypot(*(points[-1] - points[0]))) / 2
                cover_gap(rng, photo, points.mean(axis=0), 0.75 * half, str(kind))
