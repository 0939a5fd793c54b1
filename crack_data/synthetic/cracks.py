"""Cracks: where they run, how wide and dark they are along the way, and what they cover."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .masonry import Masonry
from .textures import Points, Rng, Shape, log_uniform

MIN_WIDTH = 1.0  # px
MAX_WIDTH = 80.0  # px
WIDE = 15.0  # px: from here on one sees into a crack
KINDS = {
    "single": 0.3,
    "branching": 0.3,
    "several": 0.1,
    "crossing": 0.08,
    "parallel": 0.07,
    "network": 0.15,
}


@dataclass(frozen=True)
class Crack:
    """One branch: N points along it, about 1.5 px apart, and what it is like there."""

    points: Points  # Nx2, (x, y) in px, pixel centres at integers
    left: Points  # N, distance of the left rim from the points, px
    right: Points
    darkness: Points  # N, 0 (as the ground) to 1 (black)
    visible: npt.NDArray[np.bool_]  # N, False where the crack is interrupted
    number: int = 0  # branches of one number are one crack


def normals_of(steps: Points) -> Points:
    """Unit vectors square to steps, Nx2; 0 where a step is 0."""
    return np.asarray(steps[:, ::-1] * (-1, 1) / np.maximum(np.hypot(*steps.T)[:, None], 1e-9))


def random_cracks(
    rng: Rng, shape: Shape, masonry: Masonry | None = None, kind: str = "", gap_share: float = 0.25
) -> list[Crack]:
    """Cracks of one of the `KINDS`, a random one by default; so many trunks are interrupted."""
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    width = log_uniform(rng, 1.0, 12.0)
    widest = max(min(MAX_WIDTH, min(shape) / 4), MIN_WIDTH)
    if rng.random() < 0.36 and widest > WIDE:
        width = log_uniform(rng, WIDE, widest)
    width = min(width, widest)
    if kind == "network":
        return _network(rng, shape, min(width, 5.0))
    path = _across(rng, shape)
    if masonry and rng.random() < 0.5:
        path = _along_joints(rng, masonry, shape)
    trunks = [_trunk(rng, path, width, 0)]
    branches: list[Crack] = []
    if kind == "branching":
        branches = [_branch(rng, trunks[0], shape) for _ in range(rng.integers(1, 6))]
    elif kind == "parallel":
        trunks += _parallel(rng, path, min(width, 12.0))
    elif kind == "crossing":
        trunks.append(_trunk(rng, _across(rng, shape), width * rng.uniform(0.4, 1), 1))
    elif kind == "several":
        for number in range(1, int(rng.integers(2, 5))):
            trunks.append(_trunk(rng, _across(rng, shape), width * rng.uniform(0.3, 1), number))
    broken = [interrupted(rng, c) if rng.random() < gap_share else c for c in trunks]
    return broken + branches


def interrupted(rng: Rng, crack: Crack) -> Crack:
    """Interrupt a crack one to three times, for 2 to 30 px; it tapers there."""
    way = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(crack.points, axis=0).T))])
    to_gap = np.full(len(way), np.inf)
    for _ in range(int(rng.integers(1, 4))):
        middle, half = rng.uniform(0.1, 0.9) * way[-1], rng.uniform(1, 15)
        to_gap = np.minimum(to_gap, np.abs(way - middle) - half)
    narrower = np.clip(to_gap / (0.5 * (crack.left + crack.right)), 0.2, 1)
    return replace(
        crack,
        left=np.maximum(crack.left * narrower, MIN_WIDTH / 2),
        right=np.maximum(crack.right * narrower, MIN_WIDTH / 2),
        visible=crack.visible & (to_gap > 0),
    )


def _across(rng: Rng, shape: Shape) -> Points:
    """A way from one side of the photo to the opposite one."""
    ends = np.stack([(-5.0, shape[1] + 5.0), rng.uniform(0.1, 0.9, 2) * shape[0]], axis=1)
    if rng.random() < 0.5:  # from top to bottom
        ends = np.stack([rng.uniform(0.1, 0.9, 2) * shape[1], (-5.0, shape[0] + 5.0)], axis=1)
    return _path(rng, ends[0], ends[1], rng.uniform(0.08, 0.22))


def _along_joints(rng: Rng, masonry: Masonry, shape: Shape) -> Points:
    corners = masonry.stepped_path(rng, shape)
    corners = corners + rng.normal(0, 0.15 * masonry.joint, corners.shape)
    beyond = (corners < -masonry.width) | (corners > np.array(shape[::-1]) + masonry.width)
    out = np.asarray(beyond.any(axis=1))
    sides = zip(corners[:-1], corners[1:], out[:-1] & out[1:], strict=True)
    ways = [_path(rng, start, end, 0.03)[:-1] for start, end, unseen in sides if not unseen]
    return np.concatenate(ways) if ways else _across(rng, shape)


def _trunk(rng: Rng, path: Points, width: float, number: int) -> Crack:
    """A crack along a way, in three of ten cases ending before its end."""
    stop = len(path) if rng.random() < 0.7 else int(rng.uniform(0.3, 0.8) * len(path))
    return _crack(rng, path[: max(stop, 2)], width, stop < len(path), number)


def _parallel(rng: Rng, path: Points, width: float) -> Iterator[Crack]:
    """One or two more cracks beside a way, 8 to 40 px from it."""
    normal = normals_of(path[-1:] - path[:1])
    for number in range(1, int(rng.integers(2, 4))):
        side = 1 if number == 1 else -1
        drift = np.linspace(rng.uniform(8, 40), rng.uniform(8, 40), len(path)) + 1.5 * width
        moved = path + side * normal * (drift + _wander(rng, len(path), 20))[:, None]
        yield _trunk(rng, moved, width * rng.uniform(0.4, 1), number)


def _branch(rng: Rng, trunk: Crack, shape: Shape) -> Crack:
    at = int(rng.uniform(0.1, 0.9) * (len(trunk.points) - 1))
    ahead = trunk.points[min(at + 16, len(trunk.points) - 1)] - trunk.points[max(at - 16, 0)]
    angle = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.5, 1.3)
    length = rng.uniform(0.15, 0.6) * min(shape)
    end = trunk.points[at] + length * np.array([np.cos(angle), np.sin(angle)])
    path = _path(rng, trunk.points[at], end, rng.uniform(0.1, 0.25))
    width = float(trunk.left[at] + trunk.right[at])
    width *= rng.uniform(0.35, 0.8) if width < WIDE else rng.uniform(0.06, 0.4)
    return _crack(rng, path, width, True, trunk.number)


def _network(rng: Rng, shape: Shape, width: float) -> list[Crack]:
    """Alligator cracking: jittered points joined to their neighbours, some left out."""
    cell = rng.uniform(0.25, 0.5) * min(shape)
    rows, columns = (int(side / cell) + 2 for side in shape)
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    sites = (grid + rng.uniform(-0.9, 0.0, grid.shape)) * cell
    edges = [*zip(sites[:, :-1].reshape(-1, 2), sites[:, 1:].reshape(-1, 2), strict=True)]
    edges += zip(sites[:-1].reshape(-1, 2), sites[1:].reshape(-1, 2), strict=True)
    share = rng.uniform(0.7, 0.95)
    return [
        _crack(rng, _path(rng, start, end, 0.15), width * rng.uniform(0.6, 1.0), False, 0)
        for start, end in edges
        if rng.random() < share
    ]


def _path(rng: Rng, start: Points, end: Points, roughness: float) -> Points:
    """A jagged way between two points: midpoint displacement (Fournier 1982), Nx2."""
    path = np.stack([start, end]).astype(float)
    spread = roughness * float(np.hypot(*(end - start)))
    while np.hypot(*(path[1] - path[0])) > 2 and len(path) < 4000:
        middles = (path[1:] + path[:-1]) / 2
        across = normals_of(path[1:] - path[:-1])
        middles = middles + across * rng.normal(0, spread / 2, (len(middles), 1))
        woven = np.empty((len(path) + len(middles), 2))
        woven[0::2], woven[1::2] = path, middles
        path, spread = woven, spread * rng.uniform(0.48, 0.6)
    return path


def _crack(rng: Rng, path: Points, width: float, tapered: bool, number: int) -> Crack:
    count = len(path)
    swell = _wander(rng, count, 50) * (0.3 if width < WIDE else rng.uniform(0.2, 0.6))
    width_at = width * np.exp(swell)
    if tapered:
        width_at = width_at * np.linspace(1, 0.25, count)
    # Rims are ragged by about a pixel: much of a thin crack's width, little of a wide one's.
    ragged = rng.uniform(0.1, 0.45) / (1 + width / 4)
    uneven = 0.1 if width < WIDE else rng.uniform(0.1, 0.25)
    sides = [
        width_at / 2 * np.exp(uneven * _wander(rng, count, 14) + ragged * _wander(rng, count, 2))
        for _ in range(2)
    ]
    depth = rng.uniform(0.25, 0.85) + 0.12 * _wander(rng, count, 40) + 0.06 * _wander(rng, count, 2)
    # Thin stretches let little shadow in, wide ones much.
    depth = np.clip(depth * np.clip(0.55 + 0.15 * width_at, 0.55, 1.0), 0.2, 0.95)
    left, right = (np.clip(side, MIN_WIDTH / 2, MAX_WIDTH / 2) for side in sides)
    return Crack(path, left, right, depth, np.ones(count, np.bool_), number)


def _wander(rng: Rng, count: int, step: int) -> Points:
    """Smooth random numbers, N, of about unit variance, that change over ``step`` points."""
    knots = rng.standard_normal(count // step + 2)
    return np.interp(np.arange(count) / step, np.arange(len(knots)), knots)
