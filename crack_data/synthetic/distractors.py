"""What lies on or in the ground and is no crack: paint, joints, stains, sand, leaves, shadows."""

from __future__ import annotations

import cv2
import numpy as np

from .textures import (
    SUBPIXEL_BITS,
    ByteImage,
    FloatImage,
    Points,
    fixed_point,
    smoothstep,
    value_noise,
    white_noise,
)

PAINTS = ((0.88, 0.9, 0.9), (0.35, 0.75, 0.9))  # BGR: white, yellow
LEAVES = ((0.15, 0.35, 0.5), (0.15, 0.45, 0.35), (0.1, 0.25, 0.35), (0.25, 0.55, 0.7))  # BGR
SHADOWS = ("edge", "pole", "foliage", "branches", "railing")


def paint_lane(rng: np.random.Generator, photo: FloatImage) -> None:
    """Paint a worn lane marking on the photo, HxWx3, in place."""
    shape = photo.shape[:2]
    band = _band(rng, shape, rng.uniform(20, 90), soft=1.0)
    worn = smoothstep(value_noise(rng, shape, 12, octaves=4), -2.2, rng.uniform(-1.2, 0.3))
    cover = (band * worn * rng.uniform(0.6, 0.95))[..., None]
    colour = np.array(PAINTS[rng.integers(len(PAINTS))], np.float32) * rng.uniform(0.8, 1.05)
    bumps = np.float32(0.3) * (photo - photo.mean())  # the ground shows through
    photo += cover * (colour + bumps - photo)


def cut_joint(rng: np.random.Generator, photo: FloatImage) -> None:
    """Cut one or two straight joints into the ground, in place: open, filled or sealed."""
    shape = photo.shape[:2]
    for _ in range(int(rng.integers(1, 3))):
        width = float(np.exp(rng.uniform(np.log(2), np.log(max(3, 0.06 * max(shape))))))
        distance = _distance_to_line(rng, shape)
        if rng.random() < 0.4:  # a chipped or hand-laid rim
            distance += rng.uniform(0.2, 1.5) * value_noise(rng, shape, 14, octaves=3)
        soft = rng.uniform(0.6, 1.5)
        band = 1 - smoothstep(np.abs(distance), width / 2 - soft / 2, width / 2 + soft / 2)
        filler = float(rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.8)]))
        grain = rng.uniform(0.0, 0.1) * white_noise(rng, shape, rng.uniform(0.5, 2))
        filled = filler * photo.mean() / 0.5 * (1 + grain)
        photo += band[..., None] * (filled[..., None] - photo) * rng.uniform(0.7, 1.0)
        # One rim throws a shadow into the joint, the other catches the light.
        slope = np.exp(-(((np.abs(distance) - width / 2) / (0.8 + 0.08 * width)) ** 2))
        photo *= 1 + rng.uniform(-0.25, 0.25) * (slope * np.sign(distance))[..., None]


def spill(rng: np.random.Generator, photo: FloatImage) -> None:
    """Darken, or bleach, cloudy stains, in place."""
    field = value_noise(rng, photo.shape[:2], rng.uniform(60, 260), octaves=5)
    edge = rng.uniform(0.6, 1.4)
    stain = smoothstep(field, edge, edge + rng.uniform(0.1, 0.8))
    strength = rng.uniform(0.1, 0.45) if rng.random() < 0.75 else -rng.uniform(0.1, 0.25)
    tint = rng.uniform(0.8, 1.0, 3).astype(np.float32)
    photo *= 1 - strength * stain[..., None] * tint


def drop_leaves(rng: np.random.Generator, photo: FloatImage, masks: list[ByteImage]) -> None:
    """Drop leaves on the photo, in place, and take from the masks what they hide."""
    for _ in range(int(rng.integers(1, 6))):
        rim, stalk = _leaf(rng, photo.shape[:2])
        x, y, width, height = cv2.boundingRect(np.concatenate([rim, stalk]).astype(np.float32))
        left, top = max(x - 8, 0), max(y - 8, 0)
        part = (slice(top, max(y + height + 8, top)), slice(left, max(x + width + 8, left)))
        if photo[part].size:
            corner = np.array([left, top])
            cover = _lay_leaf(rng, photo[part], rim - corner, stalk - corner)
            for mask in masks:
                mask[part][cover > 127] = 0


def _lay_leaf(rng: np.random.Generator, photo: FloatImage, rim: Points, stalk: Points) -> ByteImage:
    shape = photo.shape[:2]
    cover, vein = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cv2.fillPoly(cover, [fixed_point(rim)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    for image in (cover, vein):
        cv2.polylines(image, [fixed_point(stalk)], False, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    leaf = cover.astype(np.float32) / np.float32(255)
    shade = cv2.GaussianBlur(np.roll(leaf, (2, 2), axis=(0, 1)), (0, 0), 2) * 0.5
    photo *= (1 - shade * (1 - leaf))[..., None]
    colour = np.array(LEAVES[rng.integers(len(LEAVES))], np.float32) * rng.uniform(0.7, 1.4)
    grain = 1 + 0.12 * value_noise(rng, shape, 6, octaves=2)
    coloured = colour * (grain * (1 - vein.astype(np.float32) / 700))[..., None]
    photo += leaf[..., None] * (coloured - photo)
    return cover


def cover_gap(
    rng: np.random.Generator, photo: FloatImage, centre: Points, reach: float, kind: str
) -> None:
    """Lay a patch of sand or paint over an interruption, ``reach`` px in radius, in place."""
    margin = int(2 * reach) + 4
    x, y = (int(value) for value in np.rint(centre))
    top, left = max(y - margin, 0), max(x - margin, 0)
    part = photo[top : max(y + margin, 0), left : max(x + margin, 0)]
    if not part.size:
        return
    shape = part.shape[:2]
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    away = np.hypot(rows - np.float32(y - top), columns - np.float32(x - left))
    away += 0.25 * reach * value_noise(rng, shape, max(4.0, reach / 2), octaves=3)
    cover = 1 - smoothstep(away, 0.9 * reach, 1.25 * reach)
    if kind == "sand":
        colour = photo.mean(axis=(0, 1)) * np.array([0.85, 1.0, 1.1]) * rng.uniform(0.8, 1.3)
        grain = 0.1 * white_noise(rng, shape, 0.7)
    else:
        colour = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.7, 1.0)
        grain = 0.02 * white_noise(rng, shape, 0.7)
    laid = colour.astype(np.float32) * (1 + grain)[..., None]
    part += cover[..., None] * (laid - part)


def cast_shadow(rng: np.random.Generator, photo: FloatImage) -> None:
    """Cast the shadow of a building, a pole, foliage, branches or a railing, in place."""
    shape = photo.shape[:2]
    kind = rng.choice(SHADOWS)
    if kind == "edge":
        soft = rng.uniform(1.5, 12)
        shade = smoothstep(_distance_to_line(rng, shape), -soft, soft)
    elif kind == "pole":
        shade = _band(rng, shape, rng.uniform(6, 60), soft=rng.uniform(1.5, 5))
    elif kind == "foliage":
        shade = smoothstep(value_noise(rng, shape, rng.uniform(40, 110), octaves=3), -0.3, 0.3)
    elif kind == "branches":
        shade = _branches(rng, shape)
    else:
        shade = _railing(rng, shape)
    loss = rng.uniform(0.25, 0.65) * np.array([0.88, 1.0, 1.04], np.float32)  # bluish
    photo *= 1 - loss * shade[..., None]


def _branches(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    """Twigs that fork and taper, with or without leaves: HxW, 0 to 1."""
    shade = np.zeros(shape, np.uint8)
    side = max(shape)
    for _ in range(int(rng.integers(1, 4))):
        start = rng.uniform(0, 1, 2) * (shape[1], shape[0])
        start[rng.integers(2)] = rng.choice([-0.05, 1.05]) * side
        angle = np.arctan2(shape[0] / 2 - start[1], shape[1] / 2 - start[0]) + rng.normal(0, 0.4)
        leafy = rng.random() < 0.3
        twigs = [(start, angle, rng.uniform(0.008, 0.035) * side, 0)]
        while twigs:
            twigs += _grow_twig(rng, shade, *twigs.pop(), leafy)
    soft = cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.8, 3.5))
    return soft.astype(np.float32) / np.float32(255)


def _grow_twig(
    rng: np.random.Generator,
    shade: ByteImage,
    point: Points,
    angle: float,
    width: float,
    level: int,
    leafy: bool,
) -> list[tuple[Points, float, float, int]]:
    """Draw one twig; return the twigs that fork from it."""
    forks = []
    step = 0.04 * max(shade.shape)
    for _ in range(int(rng.integers(6, 16))):
        angle += rng.normal(0, 0.14)
        ahead = point + step * np.array([np.cos(angle), np.sin(angle)])
        line = fixed_point(np.stack([point, ahead]))
        cv2.polylines(shade, [line], False, 255, max(1, round(width)), cv2.LINE_AA, SUBPIXEL_BITS)
        if leafy and rng.random() < 0.6:
            leaf = np.rint(ahead + rng.normal(0, step, 2)).astype(int).tolist()
            axes = (int(rng.uniform(0.2, 0.5) * step), int(rng.uniform(0.1, 0.25) * step))
            cv2.ellipse(shade, leaf, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
        if level < 3 and rng.random() < 0.3:
            turn = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
            forks.append((ahead, float(turn), width * rng.uniform(0.4, 0.75), level + 1))
        point, width = ahead, width * 0.93
    return forks


def _railing(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    """Evenly spaced bars between two rails, sheared as low sun shears them: HxW, 0 to 1."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, shear = rng.uniform(0, np.pi), rng.uniform(-0.8, 0.8)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    along += np.float32(shear) * across
    period = rng.uniform(0.05, 0.25) * max(shape)
    bar = rng.uniform(0.08, 0.4) * period
    soft = rng.uniform(0.8, 4)
    to_bar = np.abs(np.mod(along, np.float32(period)) - np.float32(period / 2))
    shade = 1 - smoothstep(to_bar, bar / 2 - soft / 2, bar / 2 + soft / 2)
    middle = float(across.mean()) + rng.normal(0, 0.2) * max(shape)
    half, rail = rng.uniform(0.2, 0.8) * max(shape), rng.uniform(0.5, 2.0) * bar
    from_middle = np.abs(across - np.float32(middle))
    shade *= 1 - smoothstep(from_middle, half, half + soft)
    to_rail = np.abs(from_middle - np.float32(half))
    return np.maximum(shade, 1 - smoothstep(to_rail, rail / 2, rail / 2 + soft))


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
