from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
import tifffile
from PIL import Image

from crack_data.errors import CrackError
from crack_data.photos import (
    PhotoError,
    decode_photo,
    photo_size,
    probe_photo,
    read_header,
    read_photo,
)
from crack_data.storage import AnyPath

from .photo_files import TURNS, encode, smooth_photo, tiff


@pytest.fixture
def rgb() -> np.ndarray:
    return smooth_photo()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("times", [1, 30])  # 30: higher than one band
def test_lossless(rgb: np.ndarray, kind: str, times: int) -> None:
    rgb = np.tile(rgb, (times, 1, 1))
    decoded = decode_photo(encode(Image.fromarray(rgb), kind))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert np.array_equal(decoded, rgb[:, :, ::-1])


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy(rgb: np.ndarray, kind: str) -> None:
    decoded = decode_photo(encode(Image.fromarray(rgb), kind, quality=95))
    assert np.abs(decoded.astype(int) - rgb[:, :, ::-1]).mean() < 4


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "1"])
def test_modes(rgb: np.ndarray, mode: str) -> None:
    image = Image.fromarray(rgb).convert(mode)
    decoded = decode_photo(encode(image, "TIFF"))
    expected = np.asarray(image.convert("RGB"))[:, :, ::-1]
    assert np.array_equal(decoded, expected)


def test_cmyk_jpeg_is_not_inverted(rgb: np.ndarray) -> None:
    decoded = decode_photo(encode(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(decoded.astype(int) - rgb[:, :, ::-1]).mean() < 6


def test_palette_with_transparency(rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb).quantize(16)
    decoded = decode_photo(encode(image, "PNG", transparency=bytes(range(0, 256, 16))))
    assert np.array_equal(decoded, np.asarray(image.convert("RGB"))[:, :, ::-1])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    decoded = decode_photo(data)
    assert decoded.shape == (20, 30, 3)
    assert np.abs(decoded.astype(int) - [0, 0, 255]).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(
    rgb: np.ndarray, tmp_path: Path, orientation: int, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(rgb), kind, exif=exif)
    upright = TURNS[orientation](decode_photo(encode(Image.fromarray(rgb), kind)))
    assert np.array_equal(decode_photo(data), upright)
    (tmp_path / "photo").write_bytes(data)
    width, height, grey = probe_photo(tmp_path / "photo")
    assert (height, width) == upright.shape[:2]
    assert photo_size(tmp_path / "photo") == (width, height)
    small = cv2.resize(upright, grey.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(grey.astype(int) - cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)).mean() < 3


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\0" * 1000, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_not_a_photo(data: bytes) -> None:
    with pytest.raises(PhotoError) as caught:
        decode_photo(data)
    assert caught.value.kind == "not_a_photo"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_cut_off(rgb: np.ndarray, kind: str) -> None:
    data = encode(Image.fromarray(np.tile(rgb, (4, 4, 1))), kind)
    for length in (20, len(data) * 2 // 3):
        with pytest.raises(PhotoError, match="the photo is corrupt or cut off") as caught:
            decode_photo(data[:length])
        assert caught.value.kind == "corrupt"


def test_a_damaged_body_is_corrupt(rgb: np.ndarray) -> None:
    data = bytearray(encode(Image.fromarray(rgb), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(PhotoError) as caught:
        decode_photo(bytes(data))
    assert caught.value.kind == "corrupt"


def test_jpegs_of_many_scans_are_refused_before_they_are_decoded(rgb: np.ndarray) -> None:
    data = encode(Image.fromarray(rgb), "JPEG", progressive=True)
    assert decode_photo(data).shape == rgb.shape
    start = data.rindex(b"\xff\xda")
    with pytest.raises(PhotoError, match=r"10\d JPEG scans; the limit is 100") as caught:
        decode_photo(data[:start] + data[start:-2] * 100 + data[-2:])
    assert caught.value.kind == "too_large"


@pytest.mark.shared
def test_shared_cases(shared: Path) -> None:
    cases = shared / "cases"
    with pytest.raises(PhotoError, match="2006 JPEG scans"):
        read_photo(cases / "bombs" / "manyscans.jpg")
    with pytest.raises(PhotoError, match=r"10000 x 5000 pixels; the limit is 30769230 for photos"):
        decode_photo((cases / "bombs" / "f32.tif").read_bytes(), max_pixels=50_000_000)
    turned = read_photo(cases / "tiff_orientation" / "images" / "tif6.tif")
    assert turned.shape[1::-1] == Image.open(cases / "tiff_orientation/masks/tif6.png").size
    for path in (cases / "gray16_eval" / "images").iterdir():
        twin = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) >> 8
        assert np.abs(read_photo(path)[:, :, 0].astype(int) - twin).max() <= 1
    assert read_photo(cases / "heic" / "images" / "c.jfif").ndim == 3


def test_photos_that_take_more_memory_may_have_fewer_pixels(rgb: np.ndarray) -> None:
    for data in (tiff(rgb.astype(np.float32)), encode(Image.fromarray(rgb), "WEBP")):
        assert decode_photo(data, max_pixels=8000).shape == rgb.shape
        with pytest.raises(
            PhotoError, match=r"the limit is \d+ for photos of this format and depth"
        ):
            decode_photo(data, max_pixels=2400)


def test_too_large_is_told_by_the_header(rgb: np.ndarray) -> None:
    data = encode(Image.fromarray(rgb), "PNG")
    assert decode_photo(data, max_pixels=2400).shape == rgb.shape
    with pytest.raises(PhotoError, match="60 x 40") as caught:
        decode_photo(data, max_pixels=2399)
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize("side", [20_000, 100_000])
def test_a_bomb_is_not_decoded(side: int, tmp_path: Path) -> None:
    data = bytearray(encode(Image.new("L", (8, 8)), "BMP"))
    data[18:22] = data[22:26] = side.to_bytes(4, "little")
    (tmp_path / "bomb.bmp").write_bytes(data)
    for read in (read_photo, photo_size, read_header):
        with pytest.raises(PhotoError, match="over the limit of 178000000 pixels") as caught:
            read(tmp_path / "bomb.bmp")
        assert caught.value.kind == "too_large"
    with pytest.raises(PhotoError, match="over the limit of 2400 pixels"):
        decode_photo(bytes(data), max_pixels=2400)


def long_file(path: Path, data: bytes) -> Path:
    """A file of more bytes than any memory has, a hole but for its beginning."""
    path.write_bytes(data)
    os.truncate(path, 2**42)
    return path


def test_a_tiff_too_large_is_not_read(tmp_path: Path, rgb: np.ndarray) -> None:
    data = bytearray(tiff(rgb))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for tag in (256, 257):  # width and height
            place = file.pages[0].tags[tag].valueoffset
            data[place : place + 2] = (20_000).to_bytes(2, "little")
    fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/ortho.tif", bytes(data))
    for path in (long_file(tmp_path / "a", data), f"memory://{tmp_path.name}/ortho.tif"):
        for read in (read_photo, probe_photo, photo_size, read_header):
            with pytest.raises(PhotoError, match="20000 x 20000 pixels; the limit is 17") as caught:
                read(path)
            assert caught.value.kind == "too_large"
            assert str(caught.value).startswith(f"photo {path}: ")


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG"])
def test_a_size_is_told_by_the_header_alone(tmp_path: Path, rgb: np.ndarray, kind: str) -> None:
    path = long_file(tmp_path / "a", encode(Image.fromarray(rgb), kind))
    assert photo_size(path) == (60, 40)
    assert read_header(path) == (60, 40, 1)


def test_a_tiff_of_a_server_that_gives_no_parts(tmp_path: Path) -> None:
    """Its directory stands at the end, behind what is read at once."""
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.tif"), noise)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            assert np.array_equal(read_photo(f"{url}/a.tif"), noise)
            assert photo_size(f"{url}/a.tif") == (1600, 1200)
        finally:
            server.shutdown()


@pytest.mark.parametrize("read", [read_photo, probe_photo, photo_size, read_header])
def test_files_that_cannot_be_opened(tmp_path: Path, read: Callable[[AnyPath], object]) -> None:
    (tmp_path / "folder.tif").mkdir()
    for path, why in (
        (tmp_path / "absent.tif", "No such file or directory"),
        (tmp_path / "folder.tif", "Is a directory"),
        (f"memory://{tmp_path.name}/absent.tif", f"FileNotFoundError: /{tmp_path.name}/absent.tif"),
    ):
        with pytest.raises(CrackError) as caught:
            read(path)
        assert str(caught.value) == f"{path} cannot be read: {why}"


def test_read_photo_names_the_file(tmp_path: Path, rgb: np.ndarray) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    Image.fromarray(rgb).save(good)
    bad.write_bytes(b"nothing")
    assert np.array_equal(read_photo(good), rgb[:, :, ::-1])
    with pytest.raises(PhotoError, match=r"bad\.jpg"):
        read_photo(bad)
    for read in (read_photo, photo_size):
        with pytest.raises(CrackError, match=r"absent\.jpg"):
            read(tmp_path / "absent.jpg")
    with pytest.raises(PhotoError, match=r"bad\.jpg"):
        photo_size(bad)
