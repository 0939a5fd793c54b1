"""Brickwork, paving and tiles: units with joints between them, which cracks may follow."""

from dataclasses import dataclass

import cv2
import numpy as np

from . import textures
from .textures import FloatImage, Light, Points, Rng, Shape

# BGR of bricks: red, orange, brown, yellow, grey.
BRICKS = (
    (0.25, 0.30, 0.62),
    (0.35, 0.50, 0.80),
    (0.25, 0.30, 0.42),
    (0.50, 0.66, 0.78),
    (0.55, 0.57, 0.60),
)


@dataclass(frozen=True)
class Masonry:
    """Where the units lie."""

    width: float  # of a unit with its joint, px
    height: float
    joint: float  # width of the joints, px
    offset: float  # of each second course, in widths: 0.5 in running bond, 0 in a grid
    angle: float  # of the courses, radians
    origin: tuple[float, float]  # (x, y) of a unit's corner, px

    def stepped_path(self, rng: Rng, shape: Shape) -> Points:
        """Corners of a crack that climbs down through the joints like stairs, in px."""
        reach = float(np.hypot(*shape))
        column = round(rng.uniform(-0.6, 0.6) * reach / self.width)
        forward = int(rng.choice([-1, 1]))
        corners = []
        for course in range(int(-reach / self.height), int(reach / self.height) + 1):
            along = (column + self.offset * (course % 2)) * self.width
            corners += [(along, course * self.height), (along, (course + 1) * self.height)]
            # The next head joint: half a unit on in running bond, a whole one in a grid.
            if self.offset:
                column += course % 2 if forward > 0 else course % 2 - 1
            elif rng.random() < 0.6:
                column += forward
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cosine, sine], [-sine, cosine]])
        return np.asarray(np.array(corners, float) @ turn + self.origin)


def random_masonry(rng: Rng, shape: Shape) -> Masonry:
    """Bricks, or now and then square tiles or slabs, for a photo of (H, W) px."""
    side = max(shape)
    if rng.random() < 0.7:
        width = textures.log_uniform(rng, 0.1, 0.7) * side
        height = width * rng.uniform(0.26, 0.45)
        joint = max(1.5, height * rng.uniform(0.08, 0.26))
        offset = 0.5
    else:
        width = rng.uniform(0.18, 0.7) * side
        height = width * rng.choice([1.0, 1.0, 0.5])
        joint = max(1.2, rng.uniform(0.004, 0.03) * side)
        offset = float(rng.choice([0.0, 0.5]))
    angle = rng.normal(0, 0.04) if rng.random() < 0.8 else rng.uniform(-0.8, 0.8)
    origin = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
    return Masonry(width, float(height), float(joint), offset, float(angle), origin)


def draw_masonry(rng: Rng, shape: Shape, light: Light, masonry: Masonry) -> FloatImage:
    """Units and joints, HxWx3, about 0 to 1."""
    along, across = textures.rotated_grid(shape, masonry.origin, masonry.angle)
    # Rims of bricks are worn: the coordinates are warped by noise.
    wear = rng.uniform(0.02, 0.25) * masonry.joint
    for values in (along, across):
        values += wear * textures.value_noise(rng, shape, max(3.0, masonry.height / 4), octaves=3)
    course = np.floor(across / np.float32(masonry.height)).astype(np.intp)
    along -= (course % 2 * masonry.offset * masonry.width).astype(np.float32)
    column = np.floor(along / np.float32(masonry.width)).astype(np.intp)
    to_bed, to_head = (
        np.minimum(values % np.float32(step), np.float32(step) - values % np.float32(step))
        for values, step in ((across, masonry.height), (along, masonry.width))
    )
    soft = rng.uniform(0.5, 1.5) + 0.04 * masonry.joint
    inside = np.minimum(to_bed, to_head) - np.float32(masonry.joint / 2)
    unit = textures.smoothstep(inside, -soft, soft)
    grain = rng.uniform(0.6, 2.0)
    mortar = rng.uniform(0.2, 0.85) + 0.04 * textures.value_noise(rng, shape, 30, octaves=3)
    rough = rng.uniform(0.02, 0.09)
    mortar += rough * textures.relief(textures.white_noise(rng, shape, grain), light, grain)
    photo = textures.tinted(rng, mortar, rng.uniform(-0.1, 0.3)) * (1 - unit[..., None])
    faces = _faces(rng, light, course - course.min(), column - column.min())
    photo += faces * unit[..., None]
    # The joint lies deeper (or stands out): one rim of each unit is in shadow, the other lit.
    slope = textures.relief(cv2.GaussianBlur(unit, (0, 0), soft), light, 1 + 0.1 * masonry.joint)
    photo *= 1 + np.clip(0.09 * rng.uniform(-0.25, 1.0) * slope, -0.6, 0.3)[..., None]
    return photo.astype(np.float32)


def _faces(rng: Rng, light: Light, rows: np.ndarray, columns: np.ndarray) -> FloatImage:
    """The units' own colours and roughness, HxWx3, from the number of each pixel's unit."""
    shape = rows.shape
    base = np.array(BRICKS[rng.integers(len(BRICKS))]) * rng.uniform(0.75, 1.2)
    table = (int(rows.max()) + 1, int(columns.max()) + 1)
    level = 1 + rng.uniform(0.03, 0.16) * rng.standard_normal(table)
    hue = np.clip(rng.uniform(0.0, 0.05) * rng.standard_normal(table), -0.1, 0.1)
    colours = base * level[..., None] * (1 + hue[..., None] * np.array([1.0, 0.2, -1.0]))
    bumps = textures.value_noise(rng, shape, rng.uniform(3, 25), octaves=4)
    texture = 1 + rng.uniform(0.02, 0.09) * textures.value_noise(rng, shape, 60, octaves=5)
    texture += rng.uniform(0.01, 0.08) * textures.relief(bumps, light, 1.5)
    texture += rng.uniform(0.01, 0.06) * textures.white_noise(rng, shape)
    pits = textures.smoothstep(textures.white_noise(rng, shape, rng.uniform(0.8, 2.5)), 2.2, 2.8)
    texture -= rng.uniform(0.0, 0.35) * pits
    return colours.astype(np.float32)[rows, columns] * texture[..., None]
