"""Cracks: where they run, how wide and dark they are along the way, and what they cover."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .arrays import ByteImage, FloatImage

SCALE = 4  # cracks are drawn this many times larger, then averaged down
MAX_WIDTH = 12.0  # px
MIN_WIDTH = 1.0  # px

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Crack:
    """One branch.

    Attributes:
        points: Nx2, (x, y) in px, about 3 px apart, pixel centres at integers.
        widths: N, px.
        darkness: N, 0 (as the ground) to 1 (black).
    """

    points: Points
    widths: Points
    darkness: Points


@dataclass(frozen=True)
class CrackLayer:
    """What cracks look like on a photo.

    Attributes:
        mask: HxW, 0 or 255: at least half of the pixel is crack, or the centreline crosses it.
        darkness: HxW, 0 to 1: share of the light that is lost, antialiased.
    """

    mask: ByteImage
    darkness: FloatImage


def draw_cracks(cracks: list[Crack], shape: tuple[int, int]) -> CrackLayer:
    """Draw cracks on an empty ground of (H, W) px."""
    height, width = shape
    large = np.zeros((height * SCALE, width * SCALE), np.uint8)
    centreline = np.zeros(shape, np.uint8)
    for crack in cracks:
        for quad, level in _quads(crack):
            cv2.fillConvexPoly(large, quad, level)
        line = np.rint(crack.points).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(centreline, [line], False, 255)
    darkness = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    covered = np.where(large, np.uint8(255), np.uint8(0))
    coverage = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)
    mask = np.where((coverage >= 128) | (centreline > 0), np.uint8(255), np.uint8(0))
    return CrackLayer(mask, darkness.astype(np.float32) / 255)


def _quads(crack: Crack) -> Iterator[tuple[npt.NDArray[np.int32], int]]:
    """Each stretch between two points as a quadrilateral in enlarged pixels, with its level."""
    steps = np.gradient(crack.points, axis=0)
    normals = steps[:, ::-1] * (-1, 1) / np.maximum(np.hypot(*steps.T)[:, None], 1e-9)
    offsets = normals * crack.widths[:, None] / 2
    # The centre of enlarged pixel 0 lies at -0.5 + 0.5 / SCALE in pixels of the photo.
    centre = (crack.points + 0.5) * SCALE - 0.5
    left, right = centre + offsets * SCALE, centre - offsets * SCALE
    quads = np.rint(np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1))
    levels = np.clip(np.rint(crack.darkness * 255), 1, 255).astype(int)
    return zip(quads.astype(np.int32), levels[:-1].tolist(), strict=True)


def random_cracks(rng: np.random.Generator, shape: tuple[int, int]) -> list[Crack]:
    """A single crack, one with branches, several, or a network of them, for (H, W) px."""
    kind = rng.choice(["single", "branching", "several", "network"], p=[0.35, 0.35, 0.15, 0.15])
    width = float(np.exp(rng.uniform(np.log(1.0), np.log(8.0))))
    if kind == "network":
        return _network(rng, shape, min(width, 4.0))
    trunks = [_trunk(rng, shape, width)]
    if kind == "several":
        trunks += [
            _trunk(rng, shape, width * rng.uniform(0.4, 1)) for _ in range(rng.integers(1, 4))
        ]
    branches = []
    if kind == "branching":
        branches = [_branch(rng, trunks[0], shape) for _ in range(rng.integers(1, 6))]
    return trunks + branches


def _trunk(rng: np.random.Generator, shape: tuple[int, int], width: float) -> Crack:
    """A crack across the photo, from a side to the opposite one, sometimes ending within."""
    height, extent = shape
    ends = np.array(
        [(-5.0, rng.uniform(0.1, 0.9) * height), (extent + 5.0, rng.uniform(0.1, 0.9) * height)]
    )
    if rng.random() < 0.5:
        ends = np.array(
            [(rng.uniform(0.1, 0.9) * extent, -5.0), (rng.uniform(0.1, 0.9) * extent, height + 5.0)]
        )
    path = _path(rng, ends[0], ends[1], rng.uniform(0.08, 0.22))
    stop = len(path) if rng.random() < 0.7 else int(rng.uniform(0.3, 0.8) * len(path))
    return _crack(rng, path[: max(stop, 2)], width, tapered=stop < len(path))


def _branch(rng: np.random.Generator, trunk: Crack, shape: tuple[int, int]) -> Crack:
    at = int(rng.uniform(0.1, 0.9) * (len(trunk.points) - 1))
    ahead = trunk.points[min(at + 8, len(trunk.points) - 1)] - trunk.points[max(at - 8, 0)]
    angle = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.5, 1.3)
    length = rng.uniform(0.15, 0.6) * min(shape)
    end = trunk.points[at] + length * np.array([np.cos(angle), np.sin(angle)])
    path = _path(rng, trunk.points[at], end, rng.uniform(0.1, 0.25))
    return _crack(rng, path, trunk.widths[at] * rng.uniform(0.35, 0.8), tapered=True)


def _network(rng: np.random.Generator, shape: tuple[int, int], width: float) -> list[Crack]:
    """Alligator cracking: edges of the Voronoi cells of jittered points, some left out."""
    height, extent = shape
    cell = rng.uniform(0.25, 0.5) * min(shape)
    rows, columns = np.mgrid[-1 : height / cell + 1, -1 : extent / cell + 1]
    sites = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    sites = (sites + rng.uniform(0.0, 0.9, sites.shape)) * cell
    subdivision = cv2.Subdiv2D(
        (int(-3 * cell), int(-3 * cell), int(extent + 6 * cell), int(height + 6 * cell))
    )
    subdivision.insert(sites.astype(np.float32))
    facets, _ = subdivision.getVoronoiFacetList([])
    edges = set()
    for facet in facets:
        corners = [tuple(corner) for corner in np.rint(facet).astype(int).tolist()]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            edges.add((min(start, end), max(start, end)))
    inside = [edge for edge in sorted(edges) if _touches(edge, shape)]
    keep = rng.random(len(inside)) < rng.uniform(0.7, 0.95)
    cracks = []
    for (start, end), kept in zip(inside, keep, strict=True):
        if kept and start != end:
            path = _path(rng, np.array(start, float), np.array(end, float), 0.15)
            cracks.append(_crack(rng, path, width * rng.uniform(0.6, 1.0), tapered=False))
    return cracks


def _touches(edge: tuple[tuple[int, int], tuple[int, int]], shape: tuple[int, int]) -> bool:
    return any(0 <= x < shape[1] and 0 <= y < shape[0] for x, y in edge)


def _path(rng: np.random.Generator, start: Points, end: Points, roughness: float) -> Points:
    """A jagged way between two points: midpoint displacement (Fournier 1982), Nx2."""
    path = np.stack([start, end]).astype(float)
    spread = roughness * float(np.hypot(*(end - start)))
    while np.hypot(*(path[1] - path[0])) > 4 and len(path) < 1000:
        middles = (path[1:] + path[:-1]) / 2
        along = path[1:] - path[:-1]
        across = along[:, ::-1] * (-1, 1) / np.maximum(np.hypot(*along.T)[:, None], 1e-9)
        middles = middles + across * rng.normal(0, spread / 2, (len(middles), 1))
        woven = np.empty((len(path) + len(middles), 2))
        woven[0::2], woven[1::2] = path, middles
        path, spread = woven, spread * rng.uniform(0.48, 0.6)
    return path


def _crack(rng: np.random.Generator, path: Points, width: float, tapered: bool) -> Crack:
    count = len(path)
    # Rims are ragged by about a pixel: much of a thin crack's width, little of a wide one's.
    ragged = rng.uniform(0.1, 0.45) / (1 + width / 4)
    swell = _wander(rng, count, 25) * 0.3 + _wander(rng, count, 1) * ragged
    widths = width * np.exp(swell)
    if tapered:
        widths = widths * np.linspace(1, 0.25, count)
    depth = rng.uniform(0.25, 0.85) + 0.12 * _wander(rng, count, 20) + 0.06 * _wander(rng, count, 1)
    # Thin stretches let little shadow in, wide ones much.
    depth = depth * np.clip(0.55 + 0.15 * widths, 0.55, 1.0)
    return Crack(path, np.clip(widths, MIN_WIDTH, MAX_WIDTH), np.clip(depth, 0.2, 0.95))


def _wander(rng: np.random.Generator, count: int, step: int) -> Points:
    """Smooth random numbers, N, of about unit variance, that change over ``step`` points."""
    knots = rng.standard_normal(count // step + 2)
    return np.interp(np.arange(count) / step, np.arange(len(knots)), knots)
