"""Photos of more than 8 bits look like their twins of 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import tifffile

from crack_data.photos import PhotoError, decode_photo, photo_size, read_photo

from .photo_files import TURNS, bgr, by_opencv, planar, smooth_photo, tiff


@pytest.fixture
def rgb() -> np.ndarray:
    return smooth_photo()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(
    ("writer", "colour"),
    [
        (tiff, False),
        (tiff, True),
        (planar, True),
        (by_opencv(".png"), False),
        (by_opencv(".png"), True),
        (by_opencv(".tiff"), False),  # compressed by LZW
        (by_opencv(".tiff"), True),
    ],
)
def test_16_bit_files_look_like_their_8_bit_twin(
    rgb: np.ndarray, writer: Callable[[np.ndarray], bytes], colour: bool, bits: int
) -> None:
    twin = rgb if colour else rgb[:, :, 0]
    decoded = decode_photo(writer(twin.astype(np.uint16) << (bits - 8)))
    assert np.abs(decoded.astype(int) - bgr(twin)).max() <= 1


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("top", [1.0, 0.5, 1.02, 255.0, 4095.0, 65535.0])
def test_float_tiffs_of_any_range(rgb: np.ndarray, colour: bool, kind: type, top: float) -> None:
    twin = rgb if colour else rgb[:, :, 0]
    decoded = decode_photo(tiff((twin / 255 * top).astype(kind)))
    assert np.abs(decoded.astype(int) - bgr(twin)).max() <= 0.03 * 255


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.full((40, 60), 3000, np.uint16), 187),  # of 4095
        (np.full((40, 60), 200, np.uint16), 200),
        (np.zeros((40, 60), np.uint16), 0),
        (np.full((40, 60), 1.0, np.float32), 255),
        (np.full((40, 60), np.nan, np.float32), 0),
        (np.full((40, 60), np.inf, np.float32), 255),
        (np.zeros((40, 60), np.float32), 0),
    ],
)
def test_constant_photos_stay_constant(samples: np.ndarray, expected: int) -> None:
    assert np.abs(decode_photo(tiff(samples)).astype(int) - expected).max() <= 1


def test_what_is_no_number_and_what_is_far_off_changes_nothing_else() -> None:
    grey = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (40, 1))
    broken = grey.copy()
    broken[0, :3] = np.nan, np.inf, -np.inf
    decoded = decode_photo(tiff(broken))[:, :, 0]
    assert np.array_equal(decoded[1:], np.rint(grey[1:] * 255))
    assert decoded[0, :3].tolist() == [0, 255, 0]
    hot = np.tile(np.arange(60, dtype=np.uint16) * 68, (40, 1))  # 12 bits
    hot[7, 7] = 65535
    expected = np.tile(np.arange(60) * 68 * 255 / 4095, (40, 1))
    expected[7, 7] = 255
    assert np.abs(decode_photo(tiff(hot))[:, :, 0] - expected).max() <= 1


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.float32])
def test_narrow_and_negative_ranges_are_spread(kind: type) -> None:
    ramp = np.tile(np.linspace(0, 1, 256), (40, 1))
    for low, high in ((20000, 21000), (-500, 500)):
        if low < 0 and kind is np.uint32:
            continue
        decoded = decode_photo(tiff((low + ramp * (high - low)).astype(kind)))
        assert np.abs(decoded[:, :, 0] - ramp * 255).max() <= 2


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiffs_where_white_is_zero(rgb: np.ndarray, kind: type) -> None:
    grey = rgb[:, :, 0].astype(kind) * (257 if kind is np.uint16 else 1)
    inverted = np.iinfo(kind).max - grey
    decoded = decode_photo(tiff(inverted, photometric="miniswhite"))
    assert np.abs(decoded[:, :, 0].astype(int) - rgb[:, :, 0]).max() <= 1


def test_16_bits_with_transparency(rgb: np.ndarray) -> None:
    wide = np.dstack([rgb, np.full((40, 60), 255, np.uint8)]).astype(np.uint16) * 257
    data = cv2.imencode(".png", wide[:, :, [2, 1, 0, 3]])[1].tobytes()
    assert np.abs(decode_photo(data).astype(int) - rgb[:, :, ::-1]).max() <= 1


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("compress", ["none", "lzw", "deflate"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rasters_as_gdal_writes_them(
    rgb: np.ndarray, bands: int, interleave: str, kind: str, compress: str, tmp_path: Path
) -> None:
    """Also where the file does not say that its bands are colours."""
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=60, height=40, count=bands, dtype=kind,
        interleave=interleave, compress=compress,
    ) as raster:  # fmt: skip
        samples = np.dstack([rgb, rgb[:, :, 0]])[:, :, :bands].astype(kind)
        raster.write(samples.transpose(2, 0, 1) * (257 if kind == "uint16" else 1))
    pair = bands == 2 and kind != "uint8"
    if compress == "lzw" and bands > 1 and (interleave == "band" or pair):
        with pytest.raises(PhotoError, match=r"of planes, .* are read plain or with deflate"):
            read_photo(path)
    elif kind == "float32" and interleave == "pixel" and bands == 4:
        with pytest.raises(PhotoError, match="sample type that cannot be read; save it"):
            read_photo(path)
    else:
        expected = bgr(rgb if bands > 2 else rgb[:, :, 0])
        assert np.abs(read_photo(path).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"byteorder": ">"}])
def test_grey_of_16_bits_with_alpha(
    options: dict[str, Any], tmp_path: Path, rgb: np.ndarray
) -> None:
    """Of a camera of 12 bits too, and in tiles that reach beyond the photo."""
    grey = rgb[:, :, 0].astype(np.uint16) * 16
    pair = np.dstack([grey, np.full_like(grey, 65535)])
    tifffile.imwrite(
        tmp_path / "a.tif", pair, photometric="minisblack", planarconfig="contig",
        extrasamples=["unassalpha"], **options,
    )  # fmt: skip
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="minisblack")
    assert np.array_equal(read_photo(tmp_path / "a.tif"), read_photo(tmp_path / "grey.tif"))


FLOAT32_LEAST = -3.4028234663852886e38


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize(
    ("kind", "nodata"),
    [
        ("float32", -9999),
        ("float32", FLOAT32_LEAST),
        ("float32", -FLOAT32_LEAST),
        ("float32", 0.1),  # not what float32 makes of it
        ("float32", math.nan),
        ("float64", -1.7976931348623157e308),
        ("int16", -32768),
        ("int32", -2147483648),
        ("uint16", 0),
        ("uint16", 65535),
        ("uint32", 4294967295),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_where_a_raster_has_no_data_is_as_dark_as_the_rest(
    kind: str, nodata: float, photometric: str, tmp_path: Path
) -> None:
    """And its rest as if it were alone."""
    samples = np.tile(np.linspace(0.2, 0.9, 30), (40, 2))
    samples = (samples * (1 if kind.startswith("float") else 30_000)).astype(kind)
    samples[:, :30] = nodata
    for name, part in (("a.tif", samples), ("b.tif", samples[:, 30:])):
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", width=part.shape[1], height=40, count=1,
            dtype=kind, nodata=nodata, photometric=photometric,
        ) as raster:  # fmt: skip
            raster.write(part, 1)
    decoded, alone = read_photo(tmp_path / "a.tif"), read_photo(tmp_path / "b.tif")
    assert np.array_equal(decoded[:, 30:], alone)
    assert np.all(decoded[:, :30] == alone.min())
    assert np.ptp(alone) > 80


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_colours_without_data(rgb: np.ndarray, bands: int, interleave: str, tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=60, height=40, count=bands, dtype="float32",
        interleave=interleave, nodata=-9999,
    ) as raster:  # fmt: skip
        samples = rgb[:, :, :bands].astype(np.float32).transpose(2, 0, 1) + 1
        samples[:, 30:] = -9999
        raster.write(samples)
    decoded = read_photo(tmp_path / "a.tif").astype(int)
    expected = bgr(rgb if bands == 3 else rgb[:, :, 0])[:30]
    assert np.abs(decoded[:30] - expected).max() <= 1
    assert np.all(decoded[30:] == 1)


@pytest.mark.parametrize("kind", ["int16", "uint16", "float32"])
@pytest.mark.parametrize(
    "text", ["", "none", "1 2", "nan", "inf", "-9999", "70000", "0.5", "1e400"]
)
def test_a_nodata_value_that_no_sample_has(rgb: np.ndarray, kind: str, text: str) -> None:
    samples = rgb[:, :, 0].astype(kind) * 100
    tagged = tiff(samples, extratags=[(42113, "s", 0, text, True)])
    assert np.array_equal(decode_photo(tagged), decode_photo(tiff(samples)))


@pytest.mark.parametrize(("kind", "nodata"), [("float32", "nan"), ("float32", "-9999")])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_nothing_but_nodata(kind: str, nodata: str, photometric: str) -> None:
    samples = np.full((40, 60), float(nodata), kind)
    tag = (42113, "s", 0, nodata, True)
    assert not decode_photo(tiff(samples, photometric=photometric, extratags=[tag])).any()


def turned_tiff(samples: np.ndarray, orientation: int) -> bytes:
    return tiff(samples, extratags=[(0x0112, "H", 1, orientation, True)])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("colour", [False, True])
def test_tiffs_of_every_depth_are_turned_once(
    rgb: np.ndarray, orientation: int, kind: type, colour: bool, tmp_path: Path
) -> None:
    samples = (rgb if colour else rgb[:, :, 0]).astype(kind)
    upright = TURNS[orientation](decode_photo(tiff(samples)))
    path = tmp_path / "photo.tif"
    path.write_bytes(turned_tiff(samples, orientation))
    assert np.array_equal(read_photo(path), upright)
    assert photo_size(path) == upright.shape[1::-1]


@pytest.mark.parametrize("writer", [tiff, by_opencv(".png"), by_opencv(".tiff")])
@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_cut_off_file_of_more_than_8_bits_is_corrupt(
    rgb: np.ndarray, writer: Callable[[np.ndarray], bytes], kind: type
) -> None:
    if kind is np.float32 and writer is not tiff:
        return
    data = writer(rgb.astype(kind) * 200)
    with pytest.raises(PhotoError) as caught:
        decode_photo(data[: len(data) // 2])
    assert caught.value.kind == "corrupt"
