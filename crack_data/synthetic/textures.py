"""Grounds drawn from noise; joints, stains and shadows on them; what a camera makes of them."""

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
ByteImage = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]  # Nx2, (x, y) in px
Light = tuple[float, float]  # (x, y) towards where the light comes from
Shape = tuple[int, int]  # (H, W) in px
Rng = np.random.Generator

_SUBPIXEL_BITS = 4  # OpenCV's drawing functions take coordinates in 1/16 px


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number between two bounds whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def unit_variance(image: FloatImage) -> FloatImage:
    """Shift and scale to mean 0 and variance 1; a constant image becomes 0."""
    mean, deviation = cv2.meanStdDev(image)
    return (image - np.float32(mean[0, 0])) / np.float32(max(deviation[0, 0], 1e-6))


def smoothstep(values: FloatImage, low: float, high: float) -> FloatImage:
    """0 below ``low``, 1 above ``high``, a smooth ramp between."""
    ramp = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def value_noise(rng: Rng, shape: Shape, cell: float, octaves: int = 1) -> FloatImage:
    """Smooth noise: random values on a grid, interpolated, at ever finer grids (Perlin 1985).

    ``cell`` is the grid spacing of the coarsest octave, px; each further octave halves spacing and
    amplitude. Returns HxW, mean about 0, variance about 1.
    """
    # Summed at the size that the finest octave needs: most of the time goes into scaling up.
    coarser = max(1, int(cell / 2 ** (octaves - 1) / 4))
    small = [max(2, side // coarser) for side in shape]
    total = np.zeros(small, np.float32)
    for octave in range(octaves):
        grid_shape = [max(2, round(side * 2**octave / cell) + 1) for side in shape]
        grid = rng.standard_normal(grid_shape, dtype=np.float32)
        total += cv2.resize(grid, small[::-1], interpolation=cv2.INTER_CUBIC) * 0.5**octave
    total = unit_variance(total)
    return cv2.resize(total, shape[::-1], interpolation=cv2.INTER_LINEAR)


def white_noise(rng: Rng, shape: Shape, sigma: float = 0) -> FloatImage:
    """Independent normal numbers, HxW, blurred by ``sigma`` px; mean 0, variance 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    return unit_variance(cv2.GaussianBlur(noise, (0, 0), sigma)) if sigma else noise


def shifted(image: FloatImage, light: Light, reach: float) -> FloatImage:
    """What lies ``reach`` px towards the light of each pixel, HxW."""
    move = np.array([[1, 0, -light[0] * reach], [0, 1, -light[1] * reach]])
    return cv2.warpAffine(image, move, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def relief(bumps: FloatImage, light: Light, reach: float = 1) -> FloatImage:
    """Brightness of a bumpy surface, HxW of mean 0 and variance 1, lit from (x, y) ``light``."""
    return unit_variance(bumps - shifted(bumps, light, -reach))


def tinted(rng: Rng, brightness: FloatImage, warmth: float = 0.0) -> FloatImage:
    """Colour a brightness, HxW, slightly: HxWx3 BGR; ``warmth`` from -1 (blue) to 1 (orange)."""
    turn = 0.3 * warmth + np.clip(rng.normal(0, 0.03), -0.05, 0.1)
    tint = (1 + rng.normal(0, 0.012, 3) + turn * np.array([-1, 0, 1])).astype(np.float32)
    hue = 0.006 * value_noise(rng, brightness.shape, 100, octaves=3)
    return brightness[..., None] * tint + hue[..., None] * np.array([1, 0, -1], np.float32)


def rotated_grid(
    shape: Shape, origin: tuple[float, float], angle: float
) -> tuple[FloatImage, FloatImage]:
    """Each pixel's coordinates along and across a direction from an (x, y) point, HxW in px."""
    y, x = (index.astype(np.float32) for index in np.ogrid[: shape[0], : shape[1]])
    x, y = x - np.float32(origin[0]), y - np.float32(origin[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def draw_ground(rng: Rng, shape: Shape, light: Light) -> FloatImage:
    """Asphalt, gravel, concrete or plaster, in one of four cases with joints, HxWx3."""
    ground = rng.choice(len(GROUNDS), p=list(GROUNDS.values()))
    photo = list(GROUNDS)[ground](rng, shape, light)
    if rng.random() < 0.25:
        cut_joint(rng, photo)
    return photo


def asphalt(rng: Rng, shape: Shape, light: Light) -> FloatImage:
    """Stones in bitumen, fine as mastic or coarse as gravel, HxWx3, about 0 to 1."""
    grain = log_uniform(rng, 0.45, 3.0)  # px
    bumps = white_noise(rng, shape, grain)
    base = rng.uniform(0.28, 0.62)
    ground = base * (1 + 0.05 * value_noise(rng, shape, 160, octaves=4))
    ground += rng.uniform(0.02, 0.07) * base * 2 * relief(bumps, light, grain)
    ground += rng.uniform(0.01, 0.06) * white_noise(rng, shape)
    rarity = rng.uniform(0.8, 2.4)  # standard deviations
    stones = smoothstep(white_noise(rng, shape, grain * 1.6), rarity, rarity + 0.5)
    ground += rng.uniform(0.0, 0.22) * stones * (0.6 + 0.4 * value_noise(rng, shape, grain * 8))
    ground -= rng.uniform(0.0, 0.25) * smoothstep(-bumps, 1.8, 3.0)  # pits between the stones
    return tinted(rng, ground, rng.uniform(-0.1, 0.2))


def gravel(rng: Rng, shape: Shape, light: Light) -> FloatImage:
    """Worn asphalt or washed concrete seen close: stones of many colours, HxWx3."""
    base, size = rng.uniform(0.35, 0.62), rng.uniform(1.3, 5.0)
    ground = tinted(rng, base * (1 + 0.06 * value_noise(rng, shape, 120, octaves=4)))
    layer = np.clip(ground * 255, 0, 255).astype(np.uint8)
    for _ in range(int(min(rng.uniform(0.05, 0.2) * layer[..., 0].size / size**2, 6000))):
        level = base + rng.normal(0, 0.1)
        warmth = 0.35 if rng.random() < 0.04 else rng.normal(0.02, 0.05)  # some are rusty
        paint = (255 * level * (1 + warmth * np.array([-1, 0.1, 1]))).tolist()
        centre = (rng.random(2) * shape[::-1] * 16).astype(int).tolist()
        axes = (rng.gamma(2.0, size / 2, 2) * 16 + 12).astype(int).tolist()
        angle = rng.uniform(0, 180)
        cv2.ellipse(layer, centre, axes, angle, 0, 360, paint, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.4, 0.4 + 0.25 * size))
    ground = layer.astype(np.float32) / np.float32(255)
    bumps = ground.mean(axis=2) + 0.05 * white_noise(rng, shape, 0.8)
    ground += rng.uniform(0.01, 0.05) * relief(bumps, light, 1.5)[..., None]
    return ground


def concrete(rng: Rng, shape: Shape, light: Light) -> FloatImage:
    """Smooth mortar with cloudy patches, and sometimes pores, HxWx3."""
    base, clouds = rng.uniform(0.42, 0.85), rng.uniform(0.02, 0.07)
    ground = base * (1 + clouds * value_noise(rng, shape, 200, octaves=6))
    rough = rng.uniform(0.003, 0.02)
    ground += rough * relief(white_noise(rng, shape, rng.uniform(0.5, 1.5)), light)
    ground += rng.uniform(0.005, 0.03) * white_noise(rng, shape)
    pores = smoothstep(white_noise(rng, shape, rng.uniform(1, 3)), 2.6, 3.0)
    ground *= 1 - rng.choice([0.0, 0.5]) * pores
    return tinted(rng, ground, rng.uniform(-0.1, 0.25))


def plaster(rng: Rng, shape: Shape, light: Light) -> FloatImage:
    """A painted or rendered wall, sometimes rough, in a pale colour, HxWx3."""
    lumps = value_noise(rng, shape, rng.uniform(4, 30), octaves=3)
    ground = rng.uniform(0.5, 0.88) + 0.02 * value_noise(rng, shape, 250, octaves=4)
    ground += rng.uniform(0.005, 0.05) * relief(lumps, light, rng.uniform(1, 3))
    ground += rng.uniform(0.004, 0.02) * white_noise(rng, shape)
    colour = 1 + rng.uniform(-0.1, 0.03, 3).astype(np.float32)
    return tinted(rng, ground, rng.uniform(-0.1, 0.4)) * colour


GROUNDS = {asphalt: 0.3, gravel: 0.2, concrete: 0.35, plaster: 0.15}


def cut_joint(rng: Rng, photo: FloatImage) -> None:
    """Cut one or two straight joints into the ground, in place: open, filled, sealed or painted."""
    shape = photo.shape[:2]
    for _ in range(int(rng.integers(1, 3))):
        width = log_uniform(rng, 2, max(3, 0.06 * max(shape)))
        distance = _distance_to_line(rng, shape)
        if rng.random() < 0.4:  # a chipped or hand-laid rim
            distance += rng.uniform(0.2, 1.5) * value_noise(rng, shape, 14, octaves=3)
        band = 1 - smoothstep(np.abs(distance), width / 2 - 0.5, width / 2 + 0.5)
        filler = float(rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.9)]))
        grain = rng.uniform(0.0, 0.1) * white_noise(rng, shape, rng.uniform(0.5, 2))
        inside = (filler * (1 + grain))[..., None]
        photo += (band * rng.uniform(0.7, 1.0))[..., None] * (inside - photo)
        # One rim throws a shadow into the joint, the other catches the light.
        slope = np.exp(-(((np.abs(distance) - width / 2) / (0.8 + 0.08 * width)) ** 2))
        photo *= 1 + rng.uniform(-0.25, 0.25) * (slope * np.sign(distance))[..., None]


def spill(rng: Rng, photo: FloatImage) -> None:
    """Darken, or bleach, cloudy stains, in place."""
    field = value_noise(rng, photo.shape[:2], rng.uniform(60, 260), octaves=5)
    edge = rng.uniform(0.6, 1.4)
    stain = smoothstep(field, edge, edge + rng.uniform(0.1, 0.8))
    strength = rng.uniform(0.1, 0.45) if rng.random() < 0.75 else -rng.uniform(0.1, 0.25)
    photo *= 1 - strength * stain[..., None] * rng.uniform(0.8, 1.0, 3).astype(np.float32)


def cast_shadow(rng: Rng, photo: FloatImage) -> None:
    """Cast the shadow of a building, foliage, branches or a railing, in place."""
    shape = photo.shape[:2]
    kind = rng.choice(["edge", "foliage", "branches", "railing"])
    if kind == "edge":
        soft = rng.uniform(1.5, 12)
        shade = smoothstep(_distance_to_line(rng, shape), -soft, soft)
    elif kind == "foliage":
        shade = smoothstep(value_noise(rng, shape, rng.uniform(40, 110), octaves=3), -0.3, 0.3)
    else:
        shade = _branches(rng, shape) if kind == "branches" else _railing(rng, shape)
    loss = rng.uniform(0.25, 0.65) * np.array([0.88, 1.0, 1.04], np.float32)  # bluish
    photo *= 1 - loss * shade[..., None]


def expose(rng: Rng, photo: FloatImage) -> ByteImage:
    """What the camera makes of it: vignette or uneven light, blur, noise, 8 bit."""
    shape = photo.shape[:2]
    light = 1 + rng.uniform(0.0, 0.1) * value_noise(rng, shape, 2.0 * max(shape))
    photo = photo * light[..., None]
    if rng.random() < 0.6:
        sigma = rng.uniform(0.3, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 2.5)
        photo = cv2.GaussianBlur(photo, (0, 0), sigma)
    noise = rng.uniform(0.5, 5) * white_noise(rng, shape)
    return np.clip(photo * 255 + noise[..., None], 0, 255).astype(np.uint8)


def _branches(rng: Rng, shape: Shape) -> FloatImage:
    """Twigs that fork and taper: HxW, 0 to 1."""
    shade = np.zeros(shape, np.uint8)
    side = max(shape)
    for _ in range(int(rng.integers(1, 4))):
        start = rng.uniform(0, 1, 2) * (shape[1], shape[0])
        start[rng.integers(2)] = rng.choice([-0.05, 1.05]) * side
        angle = np.arctan2(shape[0] / 2 - start[1], shape[1] / 2 - start[0]) + rng.normal(0, 0.4)
        twigs = [(start, angle, rng.uniform(0.008, 0.035) * side, 0)]
        while twigs:
            point, angle, width, level = twigs.pop()
            for _ in range(int(rng.integers(6, 16))):
                angle += rng.normal(0, 0.14)
                ahead = point + 0.04 * side * np.array([np.cos(angle), np.sin(angle)])
                ends = np.rint(np.stack([point, ahead]) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
                thick = max(1, round(width))
                cv2.polylines(shade, [ends], False, 255, thick, cv2.LINE_AA, _SUBPIXEL_BITS)
                if level < 3 and rng.random() < 0.3:
                    turn = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
                    twigs.append((ahead, turn, width * rng.uniform(0.4, 0.75), level + 1))
                point, width = ahead, width * 0.93
    soft = cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.8, 3.5))
    return soft.astype(np.float32) / np.float32(255)


def _railing(rng: Rng, shape: Shape) -> FloatImage:
    """Evenly spaced bars between two rails, sheared as low sun shears them: HxW, 0 to 1."""
    along, across = rotated_grid(shape, (0, 0), rng.uniform(0, np.pi))
    along += np.float32(rng.uniform(-0.8, 0.8)) * across
    period = rng.uniform(0.05, 0.25) * max(shape)
    bar = rng.uniform(0.08, 0.4) * period
    soft = rng.uniform(0.8, 4)
    to_bar = np.abs(np.mod(along, np.float32(period)) - np.float32(period / 2))
    middle = float(across.mean()) + rng.normal(0, 0.2) * max(shape)
    half, rail = rng.uniform(0.2, 0.8) * max(shape), rng.uniform(0.5, 2.0) * bar
    from_middle = np.abs(across - np.float32(middle))
    bars = 1 - smoothstep(to_bar, bar / 2 - soft / 2, bar / 2 + soft / 2)
    bars *= 1 - smoothstep(from_middle, half, half + soft)
    to_rail = np.abs(from_middle - np.float32(half))
    return np.maximum(bars, 1 - smoothstep(to_rail, rail / 2, rail / 2 + soft))


def _distance_to_line(rng: Rng, shape: Shape) -> FloatImage:
    """Signed distance, HxW px, to a random straight line through the middle of the photo."""
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25)
    middle = rng.uniform(0.1, 0.9) * shape[1], rng.uniform(0.1, 0.9) * shape[0]
    return -rotated_grid(shape, middle, angle)[1]
