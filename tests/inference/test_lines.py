"""Centrelines as GeoJSON, read back by GDAL."""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin

from crack_data.errors import CrackError
from crack_data.inference.lines import find_place, find_scale, to_geojson
from crack_data.inference.measuring import measure
from crack_data.inference.outputs import OutputOptions, PhotoTask, predict_photo
from crack_data.inference.results import to_json
from crack_data.storage import PhotoFile, write_bytes

from .drawn import draw_crack, line
from .test_prediction import prediction_of

SIZE = (400, 600)
CRACK = line((300.3, 200.2), 300, 25)
# Within a zone of UTM whose middle is 9 degrees east; 1 px is 2 cm.
UTM = {"crs": "EPSG:25832", "transform": from_origin(600000, 5500000, 0.02, 0.02)}
SITE_GRID = 'LOCAL_CS["site grid",UNIT["metre",1]]'
WORLD_FILE = "0.02\n0\n0\n-0.02\n600000.01\n5499999.99\n"


def write_photo(path: Path, **place: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", width=SIZE[1], height=SIZE[0], count=3, dtype="uint8", **place
        ) as raster:
            raster.write(np.full((3, *SIZE), 150, np.uint8))
    return path


def lines_of(photo: Path) -> geopandas.GeoDataFrame:
    prediction = prediction_of(
        draw_crack(CRACK, 5, SIZE), draw_crack(line((80, 330), 90, 90), 3, SIZE)
    )
    place = find_place(str(photo), *SIZE)
    measured = [measure(instance) for instance in prediction.instances]
    lines = [each.lines for each in measured]
    scales = [find_scale(branches, place, None) for branches in lines]
    record = to_json(prediction, photo.name, measured, scales)
    path = photo.with_suffix(".geojson")
    path.write_bytes(to_geojson(lines, record, place))
    table = geopandas.read_file(path)
    # GDAL takes a file without a system for WGS84's.
    known = json.loads(path.read_text())["crs"] is not None
    return table if known else table.set_crs(None, allow_override=True)


def test_pixels_where_the_photo_is_on_no_map(tmp_path: Path) -> None:
    table = lines_of(write_photo(tmp_path / "wall.png"))
    assert list(table["photo"]) == ["wall.png", "wall.png"]
    assert list(table["crack"]) == [1, 2]
    assert list(table.geometry.length) == pytest.approx([300, 90], abs=1.5)
    assert list(table["length_px"]) == pytest.approx(list(table.geometry.length), abs=0.5)
    x, y = table.geometry.iloc[0].coords[0]
    ends = [math.dist((x, y), (a + 0.5, b + 0.5)) for a, b in CRACK]
    assert min(ends) < 2
    assert "length_mm" not in table.columns


@pytest.mark.parametrize(
    "kind", ["GeoTIFF", "world file", "world file and .prj", "site grid", "site grid's .prj"]
)
def test_map_coordinates_and_metres(kind: str, tmp_path: Path) -> None:
    if kind == "GeoTIFF":
        photo = write_photo(tmp_path / "road.tif", **UTM)
    elif kind == "site grid":
        photo = write_photo(tmp_path / "road.tif", **{**UTM, "crs": SITE_GRID})
    else:
        photo = write_photo(tmp_path / "road.jpg")
        photo.with_suffix(".jgw").write_text(WORLD_FILE)
    if kind == "world file and .prj":
        photo.with_suffix(".prj").write_text(rasterio.crs.CRS.from_epsg(25832).to_wkt())
    if kind == "site grid's .prj":
        photo.with_suffix(".prj").write_text(SITE_GRID)
    table = lines_of(photo)
    assert list(table.geometry.length) == pytest.approx([6.0, 1.8], abs=0.03)
    left, bottom, right, top = table.total_bounds
    assert 600000 < left < right < 600012
    assert 5499992 < bottom < top < 5500000
    if kind not in ("GeoTIFF", "world file and .prj"):
        assert table.crs is None
        assert find_scale([], find_place(str(photo), *SIZE), 20.0) == (20, 20)
        return
    assert table.crs.to_epsg() == 25832
    # What --mm-per-px 20 would say, but for the projection's own scale of .9997 here.
    assert list(table["length_mm"]) == pytest.approx(list(table["length_px"] * 20), rel=5e-4)
    assert list(table["length_mm"]) == pytest.approx(list(table.geometry.length * 1000), rel=2e-3)


@pytest.mark.parametrize(
    ("code", "origin", "pixel", "mm_per_px"),
    [
        # Mercator's metres are 1 / cos(latitude) too long, of the ellipsoid's curvature apart.
        (3857, (1000000, 6500000), 0.02, (12.78, 12.78)),
        # At 50 degrees north a degree is 71.70 km to the east and 111.23 km to the north.
        (4326, (9.0, 50.0), 2e-7, (14.340, 22.246)),
        (2272, (2600000, 250000), 0.1, (30.48, 30.48)),  # feet
        (27700, (400000, 300000), 0.01, (10.004, 10.004)),  # datums of their own
        (2056, (2600000, 1200000), 0.01, (10, 10)),
    ],
)
def test_lengths_are_true_on_the_ground_whatever_the_projection(
    code: int, origin: tuple[float, float], pixel: float, mm_per_px: tuple[float, float],
    tmp_path: Path,
) -> None:  # fmt: skip
    place = {"crs": f"EPSG:{code}", "transform": from_origin(*origin, pixel, pixel)}
    table = lines_of(write_photo(tmp_path / "a.tif", **place))
    assert table.crs.to_epsg() == code
    across, up = mm_per_px
    slanted = math.hypot(across * math.cos(math.radians(25)), up * math.sin(math.radians(25)))
    found = table["length_mm"] / table["length_px"]
    assert list(found) == pytest.approx([slanted, up], rel=3e-3)
    # The second crack is upright, so that its width lies across.
    assert table["mean_width_mm"][1] == pytest.approx(3 * across, rel=0.1)
    assert list(table["area_mm2"]) == pytest.approx(list(table["area"] * across * up), rel=1e-3)


# Near the middle of each projection, where its scale is known. Most have another datum than WGS84,
# up to 800 m beside it.
@pytest.mark.parametrize(
    ("code", "origin", "scale"),
    [
        (25832, (500000, 5540000), 0.9996), (32632, (500000, 5540000), 0.9996),
        (23032, (500000, 5540000), 0.9996), (26717, (500000, 4430000), 0.9996),
        (27700, (400000, 300000), 0.9996), (2056, (2600000, 1200000), 1),
        (21781, (600000, 200000), 1), (31467, (3500000, 5650000), 1),
        (28992, (155000, 463000), 0.9999), (5514, (-690000, -1110000), 0.9999),
        (31370, (150000, 170000), 1), (2193, (1600000, 5430000), 0.9996),
        (2154, (700000, 6600000), 0.9991), (3067, (500000, 6900000), 0.9996),
    ],
)  # fmt: skip
def test_a_photo_of_1_cm_a_pixel_in_national_systems(
    code: int, origin: tuple[float, float], scale: float, tmp_path: Path
) -> None:
    place = {"crs": f"EPSG:{code}", "transform": from_origin(*origin, 0.01, 0.01)}
    found = find_place(str(write_photo(tmp_path / "a.tif", **place)), *SIZE)
    for end in ((100, 0), (0, 100), (60, 80), (60, -80)):
        along, across = find_scale([np.array([(0, 0), end])], found, None) or (0, 0)
        assert (along, across) == pytest.approx((10 / scale, 10 / scale), rel=4e-4)


@pytest.mark.parametrize("code", [4326, 4267, 4314])  # WGS84, NAD27, DHDN, Bessel's ellipsoid
def test_a_photo_in_degrees_of_any_datum(code: int, tmp_path: Path) -> None:
    x, y = {4326: (9, 50), 4267: (-100, 40), 4314: (9, 51)}[code]
    place = {"crs": f"EPSG:{code}", "transform": from_origin(x, y, 1e-7, 1e-7)}
    found = find_place(str(write_photo(tmp_path / "a.tif", **place)), *SIZE)
    # The ellipsoid's radii of curvature: along the meridian, and across it.
    bend = 1 - 0.00669438 * math.sin(math.radians(y)) ** 2
    up = 6378137 * (1 - 0.00669438) / bend**1.5
    right = 6378137 / bend**0.5 * math.cos(math.radians(y))
    mm = [math.radians(1e-7) * radius * 1000 for radius in (right, up)]
    for end, expected in (((100, 0), mm), ((0, 100), mm[::-1])):
        scale = find_scale([np.array([(0, 0), end])], found, None)
        assert scale == pytest.approx(expected, rel=4e-4)


@pytest.mark.parametrize(
    ("system", "x"),
    [
        ("+proj=tmerc +lon_0=9.5 +ellps=WGS84 +units=m", 0),
        ("+proj=utm +zone=32 +ellps=intl", 536000),  # EPSG 23032, but that this names its datum
    ],
)
def test_a_system_without_a_code_becomes_wgs84(system: str, x: int, tmp_path: Path) -> None:
    crs = rasterio.crs.CRS.from_proj4(system)
    place = {"crs": crs, "transform": from_origin(x, 5500000, 0.02, 0.02)}
    table = lines_of(write_photo(tmp_path / "a.tif", **place))
    assert table.crs.to_epsg() == 4326
    longitude, latitude = table.total_bounds[:2]
    assert (longitude, latitude) == pytest.approx((9.5, 49.64), abs=0.02)
    assert table["length_mm"][0] == pytest.approx(6000, rel=0.01)


@pytest.mark.parametrize(
    ("photo", "beside"),
    [
        ("a.jpg", ("a.jgw", "a.prj")), ("a.jpg", ("a.JGW", "a.PRJ")), ("a.jpeg", ("a.jpegw",)),
        ("a.jfif", ("a.jgw",)), ("a.png", ("a.pgw",)), ("a.webp", ("a.wpw", "a.prj")),
        ("a.webp", ("a.wld",)), ("a.bmp", ("a.bpw",)), ("a.tif", ("a.tfw", "a.prj")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("storage", ["", "memory:/"])
def test_world_files_of_any_photo(
    photo: str, beside: tuple[str, ...], storage: str, tmp_path: Path
) -> None:
    picture = io.BytesIO()
    Image.init()
    Image.new("RGB", SIZE[::-1]).save(picture, Image.EXTENSION[Path(photo).suffix])
    projection = rasterio.crs.CRS.from_epsg(25832).to_wkt()
    root = f"{storage}{tmp_path}"
    write_bytes(f"{root}/{photo}", picture.getvalue())
    for name in beside:
        text = projection if name.lower().endswith(".prj") else WORLD_FILE
        write_bytes(f"{root}/{name}", text.encode())
    place = find_place(f"{root}/{photo}", *SIZE)
    assert place is not None
    assert tuple(place.transform)[:6] == pytest.approx((0.02, 0, 600000, 0, -0.02, 5500000))
    assert (place.crs and place.crs.to_epsg()) == (25832 if len(beside) > 1 else None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jgw", ""), ("a.jgw", "no numbers"), ("a.jgw", "0\n0\n0\n0\n6\n5\n"),
        ("a.JGW", "nan " * 6), ("a.jgw", "0.02 0 0 -0.02 nan 5500000"),
        ("a.jgw", "1e200 0 0 -1e200 6 5"),
        ("a.prj", ""), ("a.prj", "\xff\0"),
    ],
)  # fmt: skip
def test_a_damaged_place_is_named(name: str, content: str, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.jpg")
    photo.with_suffix(".jgw").write_text(WORLD_FILE)
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    if name == "a.JGW":
        photo.with_suffix(".jgw").unlink()
    with pytest.raises(CrackError, match=f"{name} gives no place.*correct or remove it"):
        find_place(str(photo), *SIZE)


def test_a_place_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.jpg")
    (tmp_path / "a.jgw").mkdir()
    with pytest.raises(CrackError, match=r"a\.jgw cannot be read: Is a directory"):
        find_place(str(photo), *SIZE)


def test_a_place_outside_its_system_is_named(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.tif", **{**UTM, "crs": "EPSG:4326"})  # metres for degrees
    with pytest.raises(CrackError, match=r"a\.tif lies outside its coordinate reference system"):
        find_place(str(photo), *SIZE)


def test_control_points_are_no_place(tmp_path: Path) -> None:
    corners = (0, 0, 9, 50), (0, 9, 10, 50), (9, 0, 9, 49)
    points = [GroundControlPoint(*corner) for corner in corners]
    photo = write_photo(tmp_path / "a.tif", gcps=points, crs="EPSG:4326")
    with pytest.raises(CrackError, match="control points; gdalwarp it"):
        find_place(str(photo), *SIZE)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_a_photo_on_the_map_that_is_turned_is_refused(kind: str, tmp_path: Path) -> None:
    photo = tmp_path / f"turned.{kind}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE[::-1]).save(photo, exif=exif)
    photo.with_suffix(".wld").write_text(WORLD_FILE)
    task = PhotoTask(PhotoFile(str(photo), photo.name), "turned")
    options = OutputOptions(str(tmp_path / "out"), geojson=True)
    record = predict_photo(None, task, options)  # type: ignore[arg-type]
    assert "save it upright" in record["error"]


def test_what_gdal_does_not_read_is_on_no_map(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(b"no picture")
    assert find_place(str(path), *SIZE) is None


def test_a_world_file_alone_may_be_in_degrees(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.jpg")
    photo.with_suffix(".jgw").write_text("1e-8\n0\n0\n-1e-8\n9.123456789\n48.7\n")
    lines_of(photo)
    (first, *_) = json.loads(photo.with_suffix(".geojson").read_text())["features"]
    x = np.array(first["geometry"]["coordinates"])[:, 0]
    assert np.ptp(x) == pytest.approx(1e-8 * 300 * math.cos(math.radians(25)), rel=0.05)
