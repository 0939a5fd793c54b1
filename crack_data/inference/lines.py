"""Centrelines of cracks as GeoJSON: in the photo's pixels, or on the map where the photo has one.

Coordinates are those of the photo's own coordinate reference system, which the foreign member
"crs" names as GDAL does, for lengths in metres stay true and QGIS puts them where the photo lies;
RFC 7946 leaves others than WGS84 to such agreement. Where the system has no EPSG code they are
WGS84's. "crs" is null where there is none: pixels, or a world file alone.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from skimage.measure import approximate_polygon

from ..errors import CrackError
from .measuring import Measurement
from .prediction import CrackInstance

# px that a simplified line may lie beside the centreline.
_TOLERANCE = 0.1
_WGS84 = "OGC:CRS84"
# Semi-major axis in m and squared eccentricity of WGS84's ellipsoid.
_AXIS, _ECCENTRICITY2 = 6378137.0, 0.00669437999014
# Of what the other results say of a photo and a crack, what a feature has no use for.
_LEFT_OUT = ("bbox", "orientation_deg", "segmentation")


class MapPlace(NamedTuple):
    """Where a photo lies on the map.

    Attributes:
        transform: rasterio's, from column and row (of a pixel's corner) to map coordinates.
        crs: rasterio's coordinate reference system; None where none is known.
        mm_per_px: size of a pixel on the ground; None without a system.
    """

    transform: Any
    crs: Any
    mm_per_px: float | None


def import_rasterio() -> ModuleType:
    """The library that reads georeferences; a `CrackError` where it is not installed."""
    try:
        import rasterio.warp
    except ImportError as error:
        raise CrackError("--geojson needs the extra `geo`: pip install '.[geo]'") from error
    return rasterio


def find_place(path: str) -> MapPlace | None:
    """Where a GeoTIFF, or a photo with a world file, lies on the map; None for other photos.

    Raises:
        CrackError: rasterio is not installed, or the photo is both on the map and turned by EXIF.
    """
    rasterio = import_rasterio()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                return place_of(raster)
    except rasterio.errors.RasterioIOError:  # a format that GDAL does not read
        return None


def place_of(raster: Any) -> MapPlace | None:
    """Like `find_place`, of an open raster."""
    if raster.transform.is_identity:
        return None
    tags = raster.tags()
    if any(tags.get(x, "1")[0] != "1" for x in ("EXIF_Orientation", "TIFFTAG_ORIENTATION")):
        raise CrackError(
            f"photo {raster.name} is on the map but turned by its orientation tag; save it upright"
        )
    projection = Path(raster.name).with_suffix(".prj")
    crs = raster.crs
    if crs is None and projection.is_file():
        crs = import_rasterio().crs.CRS.from_wkt(projection.read_text())
    return MapPlace(raster.transform, crs, _ground_scale(raster, crs))


def _ground_scale(raster: Any, crs: Any) -> float | None:
    """Mm per px on the ground in the raster's middle, whatever the projection's own scale there."""
    if crs is None:
        return None
    steps = 100
    middle = raster.width / 2, raster.height / 2
    xs, ys = _apply(raster.transform, np.add(middle, [(0, 0), (steps, 0), (0, steps)]))
    longitude, latitude = np.radians(
        import_rasterio().warp.transform(crs, _WGS84, xs.tolist(), ys.tolist())
    )
    curvature = 1.0 - _ECCENTRICITY2 * math.sin(latitude[0]) ** 2
    north = _AXIS * (1.0 - _ECCENTRICITY2) / curvature**1.5 * (latitude[1:] - latitude[0])
    east = _AXIS / math.sqrt(curvature) * math.cos(latitude[0]) * (longitude[1:] - longitude[0])
    return 1000.0 * math.sqrt(abs(east[0] * north[1] - east[1] * north[0])) / steps


def pixel_lines(instance: CrackInstance, measured: Measurement) -> list[np.ndarray]:
    """The centreline's branches, each (N, 2) x, y in px of the photo from its top left corner."""
    origin = np.array(instance.box[:2]) + 0.5
    return [branch.points[:, ::-1] + origin for branch in measured.branches]


def to_features(
    lines: Iterable[Iterable[np.ndarray]],
    entries: Iterable[dict[str, Any]],
    photo: str,
    place: MapPlace | None,
) -> list[dict[str, Any]]:
    """Cracks as GeoJSON features, numbered from 1: a LineString each, or a MultiLineString.

    Args:
        lines: the branches of each crack, (N, 2) x, y in px.
        entries: `results.instance_json` of each.
        photo: its name.
        place: of the photo on the map.
    """
    features = []
    for number, (branches, entry) in enumerate(zip(lines, entries, strict=True), start=1):
        coordinates = [_on_map(approximate_polygon(x, _TOLERANCE), place) for x in branches]
        geometry: dict[str, Any] = {"type": "MultiLineString", "coordinates": coordinates}
        if len(coordinates) == 1:
            geometry = {"type": "LineString", "coordinates": coordinates[0]}
        known = {key: value for key, value in entry.items() if key not in _LEFT_OUT}
        properties = {"photo": photo, "crack": number, **known}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return features


def _on_map(line: np.ndarray, place: MapPlace | None) -> list[list[float]]:
    if place is None:
        return line.round(2).tolist()
    xs, ys = _apply(place.transform, line)
    has_code = place.crs is None or place.crs.to_epsg() is not None
    if not has_code:
        xs, ys = import_rasterio().warp.transform(place.crs, _WGS84, xs.tolist(), ys.tolist())
    in_degrees = not has_code or (place.crs is not None and place.crs.is_geographic)
    return np.column_stack([xs, ys]).round(9 if in_degrees else 4).tolist()


def _apply(transform: Any, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates x and y, (N,) each, of points (N, 2) in px."""
    x, y = points.T
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def to_geojson(features: list[dict[str, Any]], place: MapPlace | None) -> bytes:
    """A GeoJSON file (RFC 7946) of the features of one photo."""
    crs = None
    if place is not None and place.crs is not None:
        code = place.crs.to_epsg()
        name = "OGC:1.3:CRS84" if code in (None, 4326) else f"EPSG::{code}"
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{name}"}}
    document = {"type": "FeatureCollection", "crs": crs, "features": features}
    return json.dumps(document).encode()
