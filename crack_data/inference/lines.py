"""Centrelines of cracks as GeoJSON: in the photo's pixels, or on the map where the photo has one.

Coordinates are those of the photo's own coordinate reference system, which the foreign member
"crs" names as GDAL does; RFC 7946 leaves others than WGS84 to such agreement. Where the system has
no EPSG code they are WGS84's. "crs" is null for pixels, a world file alone, a site's own grid.
"""

import io
import json
import math
import posixpath
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from skimage.measure import approximate_polygon

from .. import storage
from ..errors import CrackError, as_crack_error
from .results import Record, Scale


class MapPlace(NamedTuple):
    """Where a photo lies on the map."""

    transform: Any  # rasterio's, from column and row (of a pixel's corner) to map coordinates
    crs: Any  # rasterio's coordinate reference system; None where none is known
    # (3, 2), mm along the earth's three axes of 1 px to the right (first column) and down (second),
    # in the photo's middle; None without a system.
    ground: np.ndarray | None
    epsg: int | None = None  # the EPSG code of its system, where it has one for sure


def find_scale(
    lines: Iterable[np.ndarray], place: MapPlace | None, mm_per_px: float | None
) -> Scale | None:
    """The scale of a crack with branches, (N, 2) x, y in px: the map's, else the one given."""
    if place is None or place.ground is None:
        return None if mm_per_px is None else Scale(mm_per_px, mm_per_px)
    # Where pixels are not square on the ground, as in degrees, lines that run differently have
    # different scales along them; what lies across follows from the area of a pixel.
    area = float(np.linalg.norm(np.cross(*place.ground.T)))
    steps = np.concatenate([np.empty((0, 2)), *(np.diff(line, axis=0) for line in lines)])
    length = np.linalg.norm(steps, axis=1).sum()
    on_ground = np.linalg.norm(steps @ place.ground.T, axis=1).sum()
    along = float(on_ground / length) if length else math.sqrt(area)
    return Scale(along, area / along)


def import_rasterio() -> ModuleType:
    """The library that reads georeferences; a `CrackError` where it is not installed."""
    try:
        import rasterio.warp
    except ImportError as error:
        raise CrackError("--geojson needs the extra `geo`: pip install -e '.[geo]'") from error
    # A TIFF may be a plain photo.
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    return rasterio


def find_place(path: str, height: int, width: int) -> MapPlace | None:
    """Where a GeoTIFF, or a photo with a world file, lies on the map; None for other photos."""
    rasterio = import_rasterio()
    transform, crs = rasterio.Affine.identity(), None
    # GDAL does not read every photo's format.
    with suppress(rasterio.errors.RasterioIOError):
        is_plain = "://" not in path and path == storage.printable(path)  # rasterio wants UTF-8
        source = path if is_plain else io.BytesIO(storage.read_bytes(path))
        with rasterio.open(source) as raster:
            transform, crs = raster.transform, raster.crs
            if raster.gcps[0]:
                raise CrackError(f"photo {path} is on the map by control points; gdalwarp it")
    if transform.is_identity:  # GDAL knows no world files of WebP, nor any elsewhere
        kind = posixpath.splitext(path)[1].lower()
        short = ".jgw" if kind.startswith(".j") else f"{kind[:2]}{kind[-1:]}w"
        transform = _read_beside(path, (short, f"{kind}w", ".wld"), _parse_world_file)
    if transform is None:
        return None
    crs = crs or _read_beside(path, (".prj",), rasterio.crs.CRS.from_wkt)
    if crs is None or not (crs.is_projected or crs.is_geographic):  # none, or a site's own grid
        return MapPlace(transform, None, None)
    steps = 100  # px from the photo's middle, to the right and down
    xs, ys = transform @ np.add((width / 2, height / 2), [(0, 0), (steps, 0), (0, steps)]).T
    with as_crack_error(f"photo {path} lies outside its coordinate reference system; correct that"):
        # Geocentric coordinates, m: no projection distorts them, and a datum's shift falls out.
        convert = rasterio.warp.transform
        places = np.array(convert(crs, "EPSG:4978", xs.tolist(), ys.tolist(), [0.0] * 3))
    ground = 1000.0 / steps * (places[:, 1:] - places[:, :1])
    # rasterio guesses a code unless told not to; the search takes ms.
    return MapPlace(transform, crs, ground, crs.to_epsg(confidence_threshold=100))


def _read_beside(path: str, endings: Iterable[str], parse: Callable[[str], Any]) -> Any:
    """The content of the first file of a photo's name with one of these endings, or None."""
    stem = posixpath.splitext(path)[0]
    for name in (stem + x for ending in endings for x in (ending, ending.upper())):
        try:
            text = storage.read_bytes(name).decode("latin-1")
        except CrackError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            continue
        with as_crack_error(f"{name} gives no place on the map; correct or remove it"):
            return parse(text)
    return None


def _parse_world_file(text: str) -> Any:
    """The transform that its six numbers give, for the middle of a pixel."""
    a, d, b, e, x, y = map(float, text.split())
    if not (0.0 < abs(a * e - b * d) < math.inf and math.isfinite(x) and math.isfinite(y)):
        raise ValueError("a pixel has no area or no place")
    return import_rasterio().Affine(a, b, x - (a + b) / 2, d, e, y - (d + e) / 2)


def to_geojson(
    lines: Iterable[Iterable[np.ndarray]], record: Record, place: MapPlace | None
) -> bytes:
    """A GeoJSON file (RFC 7946): a feature for each crack, of its branches, (N, 2) x, y in px."""
    features = []
    pairs = zip(lines, record["instances"], strict=True)
    for number, (branches, entry) in enumerate(pairs, start=1):
        # Simplified lines lie at most a tenth of a px beside the centreline.
        coordinates = [_on_map(approximate_polygon(x, 0.1), place) for x in branches]
        geometry: dict[str, Any] = {"type": "MultiLineString", "coordinates": coordinates}
        if len(coordinates) == 1:
            geometry = {"type": "LineString", "coordinates": coordinates[0]}
        left_out = ("bbox", "orientation_deg", "segmentation")
        known = {key: value for key, value in entry.items() if key not in left_out}
        properties = {"photo": record["file_name"], "crack": number, **known}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    crs = None
    if place is not None and place.crs is not None:
        name = "OGC:1.3:CRS84" if place.epsg in (None, 4326) else f"EPSG::{place.epsg}"
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{name}"}}
    return json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}).encode()


def _on_map(line: np.ndarray, place: MapPlace | None) -> list[list[float]]:
    if place is None:
        return line.round(2).tolist()
    xs, ys = place.transform @ line.T
    # Without a system they may be degrees too.
    in_degrees = place.crs is None or place.epsg is None or place.crs.is_geographic
    if place.crs is not None and place.epsg is None:
        xs, ys = import_rasterio().warp.transform(place.crs, "OGC:CRS84", xs.tolist(), ys.tolist())
    return np.column_stack([xs, ys]).round(9 if in_degrees else 4).tolist()
