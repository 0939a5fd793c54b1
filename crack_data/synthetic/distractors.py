"""What lies on or in the ground and is no crack: paint, joints, stains, leaves, shadows."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .arrays import SUBPIXEL_BITS, ByteImage, FloatImage, smoothstep
from .texture import value_noise

Points = npt.NDArray[np.float64]

PAINTS = ((0.88, 0.9, 0.9), (0.35, 0.75, 0.9))  # BGR: white, yellow
LEAVES = ((0.15, 0.35, 0.5), (0.15, 0.45, 0.35), (0.1, 0.25, 0.35), (0.25, 0.55, 0.7))  # BGR


def paint_lane(rng: np.random.Generator, photo: FloatImage) -> None:
    """Paint a worn lane marking on the photo, HxWx3, in place."""
    shape = photo.shape[:2]
    band = _band(rng, shape, rng.uniform(20, 90), soft=1.0)
    worn = smoothstep(value_noise(rng, shape, 12, octaves=4), -2.2, rng.uniform(-1.2, 0.3))
    cover = (band * worn * rng.uniform(0.6, 0.95))[..., None]
    colour = np.array(PAINTS[rng.integers(len(PAINTS))], np.float32) * rng.uniform(0.8, 1.05)
    relief = np.float32(0.3) * (photo - photo.mean())  # the ground shows through
    photo += cover * (colour + relief - photo)


def cut_joint(rng: np.random.Generator, photo: FloatImage) -> None:
    """Cut one or two straight joints into the ground, in place: even in width and dark."""
    for _ in range(int(rng.integers(1, 3))):
        width = rng.uniform(2, 7)
        band = _band(rng, photo.shape[:2], width, soft=rng.uniform(0.6, 1.5))
        filler = rng.uniform(0.35, 0.8)
        photo *= (1 - filler * band)[..., None]


def spill(rng: np.random.Generator, photo: FloatImage) -> None:
    """Darken, or bleach, cloudy stains, in place."""
    field = value_noise(rng, photo.shape[:2], rng.uniform(60, 260), octaves=5)
    edge = rng.uniform(0.6, 1.4)
    stain = smoothstep(field, edge, edge + rng.uniform(0.1, 0.8))
    strength = rng.uniform(0.1, 0.45) if rng.random() < 0.75 else -rng.uniform(0.1, 0.25)
    tint = rng.uniform(0.8, 1.0, 3).astype(np.float32)
    photo *= 1 - strength * stain[..., None] * tint


def drop_leaves(rng: np.random.Generator, photo: FloatImage, mask: ByteImage) -> None:
    """Drop leaves on the photo, in place, and take from the mask what they hide."""
    for _ in range(int(rng.integers(1, 6))):
        rim, stalk = _leaf(rng, photo.shape[:2])
        x, y, width, height = cv2.boundingRect(np.concatenate([rim, stalk]).astype(np.float32))
        left, top = max(x - 8, 0), max(y - 8, 0)
        part = (slice(top, max(y + height + 8, top)), slice(left, max(x + width + 8, left)))
        if photo[part].size:
            corner = np.array([left, top])
            _lay_leaf(rng, photo[part], mask[part], rim - corner, stalk - corner)


def _lay_leaf(
    rng: np.random.Generator, photo: FloatImage, mask: ByteImage, rim: Points, stalk: Points
) -> None:
    cover = np.zeros(photo.shape[:2], np.uint8)
    vein = cover.copy()
    cv2.fillPoly(cover, [_fixed(rim)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    for image in (cover, vein):
        cv2.polylines(image, [_fixed(stalk)], False, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    leaf = cover.astype(np.float32) / np.float32(255)
    shade = cv2.GaussianBlur(np.roll(leaf, (2, 2), axis=(0, 1)), (0, 0), 2) * 0.5
    photo *= (1 - shade * (1 - leaf))[..., None]
    colour = np.array(LEAVES[rng.integers(len(LEAVES))], np.float32) * rng.uniform(0.7, 1.4)
    grain = 1 + 0.12 * value_noise(rng, mask.shape, 6, octaves=2)
    coloured = colour * (grain * (1 - vein.astype(np.float32) / 700))[..., None]
    photo += leaf[..., None] * (coloured - photo)
    mask[cover > 127] = 0


def cast_shadow(rng: np.random.Generator, photo: FloatImage) -> None:
    """Cast the shadow of a building, a pole or branches on the photo, in place."""
    shape = photo.shape[:2]
    kind = rng.choice(["edge", "pole", "foliage"])
    if kind == "edge":
        shade = _half_plane(rng, shape, rng.uniform(1.5, 12))
    elif kind == "pole":
        shade = _band(rng, shape, rng.uniform(6, 60), soft=rng.uniform(1.5, 5))
    else:
        shade = smoothstep(value_noise(rng, shape, rng.uniform(40, 110), octaves=3), -0.3, 0.3)
    loss = rng.uniform(0.25, 0.6) * np.array([0.88, 1.0, 1.04], np.float32)  # shadows are bluish
    photo *= 1 - loss * shade[..., None]


def _distance_to_line(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    """Signed distance, HxW px, to a random straight line through the middle of the photo."""
    height, width = shape
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25)
    x0, y0 = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
    along_x = (np.arange(width, dtype=np.float32) - np.float32(x0)) * np.float32(np.sin(angle))
    along_y = (np.arange(height, dtype=np.float32) - np.float32(y0)) * np.float32(np.cos(angle))
    return along_x[None, :] - along_y[:, None]


def _band(
    rng: np.random.Generator, shape: tuple[int, int], width: float, soft: float
) -> FloatImage:
    """1 within a straight band ``width`` px wide, 0 outside, over ``soft`` px: HxW."""
    distance = np.abs(_distance_to_line(rng, shape))
    return 1 - smoothstep(distance, width / 2 - soft / 2, width / 2 + soft / 2)


def _half_plane(rng: np.random.Generator, shape: tuple[int, int], soft: float) -> FloatImage:
    return smoothstep(_distance_to_line(rng, shape), -soft, soft)


def _leaf(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Points, Points]:
    """Outline and stalk of one leaf, Nx2 (x, y) px."""
    height, width = shape
    length, angle = rng.uniform(0.03, 0.1) * max(shape), rng.uniform(0, 2 * np.pi)
    centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    along = np.array([np.cos(angle), np.sin(angle)])
    across = along[::-1] * (-1, 1)
    t = np.linspace(-1, 1, 16)
    bulge = rng.uniform(0.25, 0.6) * np.sqrt(1 - t**2) * (1 - 0.35 * t)
    bulge = bulge * (1 + rng.normal(0, 0.08, t.shape))
    sides = [
        centre + length * (t[:, None] * along + bulge[:, None] * across),
        centre + length * (t[::-1, None] * along - bulge[::-1, None] * across),
    ]
    stalk = np.stack([centre - 1.5 * length * along, centre + length * along])
    return np.concatenate(sides), stalk


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    return np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32).reshape(-1, 1, 2)
