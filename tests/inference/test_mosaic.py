"""GeoTIFFs predicted window by window: what lies in several windows comes back as one crack."""

from __future__ import annotations

import itertools
import json
import math
import resource
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from crack_data.inference import mosaic
from crack_data.inference.mosaic import is_mosaic
from crack_data.inference.outputs import OutputOptions, PhotoTask, predict_photo
from crack_data.inference.prediction import CrackPrediction
from crack_data.inference.results import Record
from crack_data.storage import PhotoFile

from .test_prediction import prediction_of

ORIGIN, PIXEL = (600000.0, 5500000.0), 0.02
# x, y in px of the corners of cracks, and their widths.
CRACKS = (
    ([(40, 60), (760, 540), (1150, 300)], 7),  # through many windows
    ([(256, 620), (256, 880)], 8),  # along a border of windows
    ([(700, 700), (1100, 700)], 5),
    ([(900, 820), (960, 860)], 3),  # within one window
)
SIZE = (900, 1200)


class DarkPredictor:
    """Takes every connected dark region for a crack: cheap, and right on drawn rasters."""

    threshold = 0.5
    calls = 0

    def __call__(
        self, image_bgr: np.ndarray, threshold: float | None = None, *, most: int | None = 100
    ) -> CrackPrediction:
        self.calls += 1
        count, labels = cv2.connectedComponents((image_bgr[..., 0] < 100).astype(np.uint8))
        if count == 1:
            nothing = prediction_of(np.ones(image_bgr.shape[:2], dtype=bool))
            return replace(nothing, instances=(), probability=np.zeros_like(labels, np.uint8))
        return prediction_of(*(labels == label for label in range(1, count)))


def draw(
    path: Path, size: tuple[int, int], cracks: object, block: int, dtype: str = "uint8"
) -> None:
    """Write a light raster with dark cracks, block by block."""
    place = {"crs": "EPSG:25832", "transform": from_origin(*ORIGIN, PIXEL, PIXEL)}
    with rasterio.Env(GDAL_CACHEMAX=2**26), rasterio.open(
        path, "w", driver="GTiff", width=size[1], height=size[0], count=3, dtype=dtype,
        compress="deflate", tiled=True, **place,
    ) as raster:  # fmt: skip
        for y, x in itertools.product(range(0, size[0], block), range(0, size[1], block)):
            window = Window(x, y, min(block, size[1] - x), min(block, size[0] - y))
            pixels = np.full((window.height, window.width), 180, np.uint8)
            for points, width in cracks:  # type: ignore[attr-defined]
                for a, b in itertools.pairwise(np.array(points, dtype=float) - (x, y)):
                    # What OpenCV fills takes its rim with it.
                    side = (b - a)[::-1] * (1, -1) / np.linalg.norm(b - a) * (width - 1) / 2
                    corners = np.rint(16 * np.array([a + side, b + side, b - side, a - side]))
                    cv2.fillConvexPoly(pixels, corners.astype(np.int32), 40, shift=4)
            light = np.full_like(pixels, 180)  # the cracks show in blue alone
            colours = np.stack([light, light, pixels]).astype(dtype)
            raster.write(colours * (16 if dtype == "uint16" else 1), window=window)


def predict(path: Path, folder: Path, **options: object) -> tuple[Record, DarkPredictor]:
    predictor = DarkPredictor()
    task = PhotoTask(PhotoFile(str(path), path.name), path.stem)
    given = OutputOptions(str(folder), **{"geojson": True, **options})  # type: ignore[arg-type]
    return predict_photo(predictor, task, given), predictor  # type: ignore[arg-type]


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic, "pixel_limit", lambda *_: 1_000_000)
    monkeypatch.setattr(mosaic, "WINDOW", 256)
    monkeypatch.setattr(mosaic, "HALO", 64)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_cracks_across_windows(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "road.tif"
    draw(path, SIZE, CRACKS, 512, dtype)
    record, predictor = predict(path, tmp_path / "out", mm_per_px=1.0)
    assert predictor.calls == 20
    check_lines(record, tmp_path / "out" / "road_lines.geojson", CRACKS)
    with rasterio.open(path) as drawn, rasterio.open(tmp_path / "out" / "road_mask.tif") as mask:
        dark = drawn.read(3) < drawn.read(3).max() / 2
        assert np.array_equal(mask.read(1) > 0, dark)
        assert mask.crs == drawn.crs
        assert mask.transform == drawn.transform
    assert record["percent_masked"] == pytest.approx(100 * dark.mean())
    assert sum(x["area"] for x in record["instances"]) == np.count_nonzero(dark)
    files = {x.name: x.stat().st_size for x in (tmp_path / "out").iterdir() if x.is_file()}
    assert record["outputs"] == files


class ShortSighted(DarkPredictor):
    """Is too little sure of what is short to draw it, and gives that only where all is wanted."""

    def __call__(
        self, image_bgr: np.ndarray, threshold: float | None = None, *, most: int | None = 100
    ) -> CrackPrediction:
        found = super().__call__(image_bgr, threshold)
        long = tuple(x for x in found.instances if len(x.mask[0]) >= 100)
        short = tuple(replace(x, score=0.1) for x in found.instances if len(x.mask[0]) < 100)
        return replace(found, instances=long, rejected=() if most else short)


@pytest.mark.usefixtures("small_windows")
def test_a_crack_goes_on_where_a_window_alone_would_not_draw_it(tmp_path: Path) -> None:
    """One ends 30 px behind a border, the other two are short in all of their windows."""
    cracks = [([(300, 100), (542, 100)], 5), ([(300, 400), (340, 400)], 5)]
    cracks.append(([(480, 600), (540, 600)], 5))
    path = tmp_path / "road.tif"
    draw(path, SIZE, cracks, 512)
    task = PhotoTask(PhotoFile(str(path), path.name), path.stem)
    options = OutputOptions(str(tmp_path / "out"), geojson=True)
    record = predict_photo(ShortSighted(), task, options)  # type: ignore[arg-type]
    check_lines(record, tmp_path / "out" / "road_lines.geojson", cracks[:1])
    with rasterio.open(path) as drawn, rasterio.open(tmp_path / "out" / "road_mask.tif") as mask:
        expected = drawn.read(3) < 100
        expected[200:] = False
        assert np.array_equal(mask.read(1) > 0, expected)
    assert record["percent_masked"] == pytest.approx(100 * expected.mean())


def check_lines(record: Record, path: Path, cracks: object) -> None:
    """Each drawn crack is one feature, its length as drawn, within 5 %, its width within 1 px."""
    table = geopandas.read_file(path).sort_values("length_px")
    expected = sorted(
        (sum(itertools.starmap(math.dist, itertools.pairwise(points))), width)
        for points, width in cracks  # type: ignore[attr-defined]
    )
    assert list(table["length_px"]) == pytest.approx([x for x, _ in expected], rel=0.05)
    assert list(table["mean_width_px"]) == pytest.approx([x for _, x in expected], abs=1)
    assert list(table["max_width_px"]) == pytest.approx([x for _, x in expected], abs=2)
    # The raster's transform says how large a pixel is.
    metres = table.geometry.length
    assert list(table["length_mm"]) == pytest.approx(list(metres * 1000), rel=5e-3)
    assert list(metres) == pytest.approx(list(table["length_px"] * PIXEL), rel=5e-3)
    assert len(record["instances"]) == len(expected)


def test_the_widest_place_is_no_narrower_than_the_mean() -> None:
    line = np.array([(0.0, 1.0), (10.0, 1.0)])
    joined = mosaic._join([mosaic.Part(0.9, 20, (0, 0, 10, 2), 1.5, [line])], [line], None)
    assert joined["max_width_px"] == joined["mean_width_px"] == 2.0


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("nodata", [200, 0])  # 0: what is dark is taken for crack
def test_where_there_is_no_data_there_is_nothing(tmp_path: Path, nodata: int) -> None:
    path = tmp_path / "road.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1200, height=900, count=1, dtype="uint8",
        nodata=nodata,
        crs="EPSG:25832", transform=from_origin(*ORIGIN, PIXEL, PIXEL),
    ) as raster:  # fmt: skip
        pixels = np.full((100, 100), 180, np.uint8)
        pixels[40:50] = 40
        raster.write(pixels, 1, window=Window(1000, 800, 100, 100))
    record, predictor = predict(path, tmp_path / "out")
    assert predictor.calls <= 4
    assert (record["height"], record["width"]) == (900, 1200)
    assert (record["percent_masked"], record["percent_unmasked"]) == (10, 90)
    with rasterio.open(tmp_path / "out" / "road_mask.tif") as mask:
        assert np.count_nonzero(mask.read(1)) == 1000
    assert sum(x["area"] for x in record["instances"]) == 1000
    table = geopandas.read_file(tmp_path / "out" / "road_lines.geojson")
    assert list(table["length_px"]) == pytest.approx([100], abs=2)
    assert list(table["mean_width_px"]) == pytest.approx([10], abs=0.5)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("kind", ["palette", "miniswhite"])
def test_a_raster_whose_numbers_are_no_brightness_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "road.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1200, height=900, count=1, dtype="uint8",
        crs="EPSG:25832", transform=from_origin(*ORIGIN, PIXEL, PIXEL), photometric=kind,
    ) as raster:  # fmt: skip
        raster.write(np.ones((900, 1200), np.uint8), 1)
        if kind == "palette":
            raster.write_colormap(1, {1: (200, 190, 180)})
    assert "has a palette, or white as zero; save it" in predict(path, tmp_path / "out")[0]["error"]


@pytest.mark.usefixtures("small_windows")
def test_a_raster_cut_off_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "road.tif"
    draw(path, SIZE, CRACKS, 512)
    path.write_bytes(path.read_bytes()[:-3000])
    record, _ = predict(path, tmp_path / "out")
    assert "cannot be predicted" in record["error"]
    assert not (tmp_path / "out").exists()


def test_what_is_no_mosaic(tmp_path: Path, small_windows: None) -> None:
    assert not is_mosaic(str(tmp_path / "a.jpg"))
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    assert not is_mosaic(str(tmp_path / "broken.tif"))
    draw(tmp_path / "small.tif", (90, 120), (), 512)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it is not on the map is no news
        assert not is_mosaic(str(tmp_path / "small.tif"))
    draw(tmp_path / "large.tif", SIZE, (), 512)
    assert is_mosaic(str(tmp_path / "large.tif"))
    # A description of other files, which GDAL would open by path or URL.
    (tmp_path / "virtual.tif").write_text(
        '<VRTDataset rasterXSize="20000" rasterYSize="20000"><GeoTransform>0,1,0,0,0,-1'
        "</GeoTransform></VRTDataset>"
    )
    assert not is_mosaic(str(tmp_path / "virtual.tif"))
    assert not is_mosaic(str(tmp_path / "latin-\udcfc.tif"))  # rasterio wants UTF-8


@pytest.mark.parametrize(
    ("dtype", "bands", "height", "limit"),
    [
        ("uint8", 3, 10_200, "178000000"),
        ("uint16", 1, 10_200, "178000000"),
        ("uint16", 3, 6_200, "109538461 for photos of this format and depth; save it with 8 bits"),
        ("float32", 1, 6_200, "109538461 for photos of this format and depth; save it with 8 bits"),
        ("float32", 3, 3_200, "56960000 for photos of this format and depth; save it with 8 bits"),
    ],
)
def test_a_raster_too_large_for_its_depth_is_read_with_geojson(
    tmp_path: Path, dtype: str, bands: int, height: int, limit: str
) -> None:
    """Without, the answer says so; a little smaller, it is read whole."""
    path, fitting = tmp_path / "ortho.tif", tmp_path / "fitting.tif"
    place = {"crs": "EPSG:25832", "transform": from_origin(*ORIGIN, PIXEL, PIXEL)}
    for file, rows in ((path, height), (fitting, int(limit.split()[0]) // 18_000)):
        with rasterio.open(
            file, "w", driver="GTiff", width=18_000, height=rows, count=bands, dtype=dtype,
            tiled=True, sparse_ok=True, nodata=0, **place,
        ):  # fmt: skip
            pass  # no block is written
    record, _ = predict(path, tmp_path / "out", geojson=False)
    assert record["error"] == (
        f"photo {path}: the photo has 18000 x {height} pixels; the limit is {limit}; "
        "--geojson reads GeoTIFFs over the limit too"
    )
    record, _ = predict(path, tmp_path / "out")
    assert (record["height"], record["width"], record["instances"]) == (height, 18_000, [])
    assert not is_mosaic(str(fitting))


@pytest.mark.slow
def test_an_orthomosaic_of_400_megapixels(tmp_path: Path) -> None:
    cracks = [([(1000 + 900 * i, 500), (900 * i + 200, 19000)], 9) for i in range(20)]
    path = tmp_path / "ortho.tif"
    draw(path, (20_000, 20_000), cracks, 2048)
    assert is_mosaic(str(path))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record, _ = predict(path, tmp_path / "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KiB
    check_lines(record, tmp_path / "out" / "ortho_lines.geojson", cracks)
    document = json.loads((tmp_path / "out" / "ortho_lines.geojson").read_text())
    assert len(document["features"]) == 20
