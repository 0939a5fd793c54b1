"""Drawn photos: ground, joints, stains, cracks, shadows, camera; and their files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from tqdm import trange

from ..annotations import info_of, read_json
from ..convert.coco import annotation, write_coco
from ..convert.pairing import PairRecord
from ..errors import CrackError
from ..storage import AnyPath, atomic_write, write_bytes
from . import textures
from .cracks import Crack, normals_of, random_cracks
from .masonry import draw_masonry, random_masonry
from .textures import ByteImage, FloatImage, Light, Rng, Shape

MIN_SIDE, MAX_SIDE = 32, 8192  # px; photos are drawn in floats, several GB at the largest
_DESCRIPTION = "Drawn cracks"
SCALE = 4  # cracks are drawn this many times larger, then averaged down
DEEP = 3.0  # px from the rim of a crack: from here on one sees into it
PAINTS = ((0.88, 0.9, 0.9), (0.35, 0.75, 0.9))  # BGR: white, yellow


@dataclass(frozen=True)
class SyntheticPhoto:
    """A drawn photo and what it shows."""

    image: ByteImage  # HxWx3, BGR
    instances: list[ByteImage]  # HxW each, 255 where that crack is visible; they may cross

    @property
    def mask(self) -> ByteImage:
        """HxW uint8, 255 where any crack is visible, else 0."""
        return np.max([np.zeros(self.image.shape[:2], np.uint8), *self.instances], axis=0)


@dataclass(frozen=True)
class CrackLayer:
    """What cracks look like on a photo of HxW px."""

    masks: list[ByteImage]  # of each crack, 0 or 255: half of the pixel, or the centreline, is it
    darkness: FloatImage  # 0 to 1: share of the light that is lost, antialiased
    coverage: FloatImage  # 0 to 1: share of each pixel that is crack


def draw_photo(index: int, seed: int = 0, height: int = 320, width: int = 480) -> SyntheticPhoto:
    """Draw photo number ``index`` of the series ``seed``, whatever others are drawn."""
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        raise CrackError(
            f"drawn photos have sides of {MIN_SIDE} to {MAX_SIDE} px, not {width}x{height}"
        )
    rng = np.random.default_rng([seed, index])
    shape = (height, width)
    angle = rng.uniform(0, 2 * np.pi)
    light = (float(np.cos(angle)), float(np.sin(angle)))
    masonry = random_masonry(rng, shape) if rng.random() < 0.2 else None
    if masonry:
        photo = draw_masonry(rng, shape, light, masonry)
    else:
        photo = textures.draw_ground(rng, shape, light)
    if rng.random() < 0.4:
        textures.spill(rng, photo)
    instances: list[ByteImage] = []
    if rng.random() >= 0.2:  # the others show no crack
        cracks = random_cracks(rng, shape, masonry)
        layer = draw_cracks(cracks, shape)
        open_cracks(rng, photo, layer, light)
        cover_gaps(rng, photo, cracks)
        instances = layer.masks
    if rng.random() < 0.25:
        textures.cast_shadow(rng, photo)
    return SyntheticPhoto(textures.expose(rng, photo), instances)


def write_photos(
    folder: AnyPath,
    count: int,
    seed: int = 0,
    height: int = 320,
    width: int = 480,
    noise: bool = False,
    instances: bool = False,
) -> None:
    """Write ``images/drawn_00000.jpg`` … and ``masks/drawn_00000.png`` … into a folder.

    ``noise`` gives masks the faults of real ones; ``instances`` adds COCO's ``instances.json``. An
    earlier series is replaced; a `CrackError` where it is longer, or annotations are of none.
    """
    described = Path(folder, "instances.json")
    if described.exists() and info_of(read_json(described), "description") != _DESCRIPTION:
        raise CrackError(f"{described} is not of drawn photos; move it, or name another folder")
    if Path(folder, "images", f"drawn_{count:05d}.jpg").exists():
        raise CrackError(f"{folder} holds a longer series; remove it, or name another folder")
    records = []
    for index in trange(count, unit=" photos", leave=False, disable=None):
        photo = draw_photo(index, seed, height, width)
        described.unlink(missing_ok=True)  # it is of the photos that are replaced now
        mask = photo.mask
        if noise:  # the third number keeps this stream apart from the photo's own
            mask = noisy_mask(mask, np.random.default_rng([seed, index, 1]))
        name = f"drawn_{index:05d}"
        for path, picture in ((f"images/{name}.jpg", photo.image), (f"masks/{name}.png", mask)):
            write_bytes(Path(folder, path), cv2.imencode(path[-4:], picture)[1].tobytes())
        record = PairRecord(name, f"{name}.jpg", width=width, height=height)
        for instance in photo.instances:
            x, y, w, h = cv2.boundingRect(instance)
            part = instance[y : y + h, x : x + w] // 255
            record.annotations.append(annotation(part, x, y, instance.shape, "rle"))
        records.append(record)
    if instances:
        with atomic_write(described) as stream:
            write_coco(stream, records, {"description": _DESCRIPTION, "image_root": "images"})


def noisy_mask(mask: ByteImage, rng: np.random.Generator) -> ByteImage:
    """Widen, antialias, speckle and JPEG-compress a mask, HxW of 0 or 255: HxW of 0 to 255."""
    if rng.random() < 0.4:
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 0.6))
    for _ in range(int(rng.integers(0, 25))):
        y, x = rng.integers(mask.shape[0]), rng.integers(mask.shape[1])
        speck = mask[y : y + rng.integers(1, 3), x : x + rng.integers(1, 3)]
        np.maximum(speck, rng.integers(150, 256), out=speck, casting="unsafe")
    quality = int(rng.integers(70, 96))
    _, data = cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def draw_cracks(cracks: list[Crack], shape: Shape) -> CrackLayer:
    """Draw cracks on an empty ground of (H, W) px."""
    darkness, coverage = np.zeros((2, *shape), np.uint8)
    masks = []
    for number in sorted({crack.number for crack in cracks}):
        large = np.zeros((shape[0] * SCALE, shape[1] * SCALE), np.uint8)
        centreline = np.zeros(shape, np.uint8)
        for crack in (crack for crack in cracks if crack.number == number):
            for quad, level in _quads(crack):
                cv2.fillConvexPoly(large, quad, level)
            for line in runs(crack.points, crack.visible):
                cv2.polylines(centreline, [np.rint(line).astype(np.int32)], False, 255)
        dark = cv2.resize(large, shape[::-1], interpolation=cv2.INTER_AREA)
        large[large > 0] = 255
        covered = cv2.resize(large, shape[::-1], interpolation=cv2.INTER_AREA)
        darkness, coverage = np.maximum(darkness, dark), np.maximum(coverage, covered)
        is_crack = (covered >= 128) | (centreline > 0)
        if is_crack.any():
            masks.append(is_crack * np.uint8(255))
    return CrackLayer(masks, darkness / np.float32(255), coverage / np.float32(255))


def runs(points: np.ndarray, chosen: npt.NDArray[np.bool_]) -> list[np.ndarray]:
    """The stretches of points, of one at least, that are chosen."""
    return np.split(points, np.flatnonzero(np.diff(chosen)) + 1)[0 if chosen[0] else 1 :: 2]


def _quads(crack: Crack) -> Iterator[tuple[npt.NDArray[np.int32], int]]:
    """Each stretch between two points as a quadrilateral in enlarged pixels, with its level."""
    # The wider a crack, the less its rims follow each turn of the centreline.
    smooth = 1 + 2 * int(min(crack.left.mean() + crack.right.mean(), len(crack.points) - 1) / 4)
    even = uniform_filter1d(crack.points, smooth, axis=0, mode="nearest")
    normals = normals_of(np.gradient(even, axis=0))
    # The centre of enlarged pixel 0 lies at -0.5 + 0.5 / SCALE in pixels of the photo.
    centre = (crack.points + 0.5) * SCALE - 0.5
    left = centre + normals * crack.left[:, None] * SCALE
    right = centre - normals * crack.right[:, None] * SCALE
    quads = np.rint(np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1))
    levels = np.clip(np.rint(crack.darkness * 255), 1, 255).astype(int)
    seen = crack.visible[:-1] & crack.visible[1:]
    return zip(quads.astype(np.int32)[seen], levels[:-1][seen].tolist(), strict=True)


def open_cracks(rng: Rng, photo: FloatImage, layer: CrackLayer, light: Light) -> None:
    """Draw the cracks, in place: thin ones as dark lines, wide ones as trenches with a floor."""
    inside = (layer.coverage >= 0.5).view(np.uint8)
    to_rim = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    trench = _trench(rng, photo, layer.coverage, to_rim, light) if to_rim.max() > DEEP else None
    # Rims are worn to lighter or darker, to one side more.
    rim = cv2.GaussianBlur(layer.darkness, (0, 0), rng.uniform(1.2, 3.5))
    rim = np.roll(rim, rng.integers(-2, 3, 2), axis=(0, 1)) * (1 - layer.darkness)
    photo *= (1 + rng.uniform(-0.3, 0.25) * rim)[..., None]
    rough = rng.uniform(0.1, 0.3) * textures.value_noise(rng, layer.darkness.shape, 3)
    photo *= 1 - np.clip(layer.darkness * (1 + rough), 0, 1)[..., None]
    if trench is not None:
        photo += textures.smoothstep(to_rim, 0.5 * DEEP, 1.5 * DEEP)[..., None] * (trench - photo)


def _trench(
    rng: Rng, photo: FloatImage, coverage: FloatImage, to_rim: FloatImage, light: Light
) -> FloatImage:
    """The inside of wide cracks, HxWx3: walls, a floor in shadow, rubble and dirt."""
    half = float(to_rim.max())
    filled = rng.uniform(0, 1) ** 1.5 * min(1.0, half / 12)  # 0: deep and black, 1: full of dirt
    rubble = textures.value_noise(rng, coverage.shape, rng.uniform(4, 12), octaves=3)
    floor = (rng.uniform(0.05, 0.2) + 0.4 * filled) * float(photo.mean()) * (1 + 0.25 * rubble)
    floor += (0.02 + 0.12 * filled) * textures.relief(rubble, light, 1.5)
    inner = textures.tinted(rng, floor, rng.uniform(-0.1, 0.7))
    # Walls: what is near the rim is still lit, most where it faces the light.
    blurred = cv2.GaussianBlur(to_rim, (0, 0), 1.5)
    facing = textures.shifted(blurred, light, -1) - textures.shifted(blurred, light, 1)
    wall = np.exp(-to_rim / np.float32(rng.uniform(0.08, 0.45) * half + 1))
    lit = np.clip(0.35 + rng.uniform(0.05, 0.2) * facing + 0.08 * rubble, 0.05, 1)
    inner += (wall * lit)[..., None] * (photo * 0.8 - inner)
    # The rim towards the light throws its shadow inside.
    reach = rng.uniform(0.15, 1.0) * half
    lee = textures.shifted(1 - coverage, light, reach)
    shade = cv2.GaussianBlur(lee, (0, 0), 0.7 + 0.06 * reach)
    inner *= 1 - rng.uniform(0.2, 0.75) * shade[..., None]
    return np.clip(inner, 0.01, 1)


def cover_gaps(rng: Rng, photo: FloatImage, cracks: list[Crack]) -> None:
    """Lay sand or paint over some of the interruptions; others are healed or too faint to see."""
    for points in (x for crack in cracks for x in runs(crack.points, ~crack.visible)):
        kind = rng.choice(["none", "sand", "paint"])
        reach = 0.375 * float(np.hypot(*(points[-1] - points[0])))
        margin = int(2 * reach) + 4
        x, y = np.rint(points.mean(axis=0)).astype(int).tolist()
        top, left = max(y - margin, 0), max(x - margin, 0)
        part = photo[top : max(y + margin, 0), left : max(x + margin, 0)]
        if kind == "none" or not reach or not part.size:
            continue
        shape = part.shape[:2]
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        away = np.hypot(rows - np.float32(y - top), columns - np.float32(x - left))
        away += 0.25 * reach * textures.value_noise(rng, shape, max(4.0, reach / 2), octaves=3)
        cover = 1 - textures.smoothstep(away, 0.9 * reach, 1.25 * reach)
        sand = photo.mean(axis=(0, 1)) * np.array([0.85, 1.0, 1.1])
        colour = np.array(PAINTS[rng.integers(len(PAINTS))]) if kind == "paint" else sand
        colour = (colour * rng.uniform(0.75, 1.1)).astype(np.float32)
        grain = (0.02 if kind == "paint" else 0.1) * textures.white_noise(rng, shape, 0.7)
        part += cover[..., None] * (colour * (1 + grain)[..., None] - part)
