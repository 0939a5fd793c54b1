"""Written PNGs read everywhere; the quick reader leaves all but whole, plain files alone."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from crack_data.convert.mask_files import read_mask
from crack_data.errors import CrackError
from crack_data.png import encode_png, read_plain_png

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (37, 53), np.uint8)
COLOURS = RNG.integers(0, 256, (37, 53, 3), np.uint8)


def _saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def _with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """The file with one more chunk after its header."""
    body = kind + content
    chunk = struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (600, 7), (256, 4), (257, 4), (1, 9)])
@pytest.mark.parametrize("colours", [False, True])
def test_what_is_written_reads_back(shape: tuple[int, int], colours: bool, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (*shape, 3) if colours else shape, np.uint8)
    data = encode_png(pixels)
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), pixels[..., ::-1] if colours else pixels)
    (tmp_path / "m.png").write_bytes(data)
    ours = read_plain_png(tmp_path / "m.png")
    assert ours is not None
    assert np.array_equal(ours, pixels)


def test_parts_and_turned_views_of_arrays_are_written_too() -> None:
    for pixels in (COLOURS[::2, 3:40], COLOURS[:, ::-1], GREY.T, GREY[:, ::3]):
        decoded = cv2.imdecode(np.frombuffer(encode_png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(decoded, pixels)


def test_plain_files_read_as_pillow_reads_them(tmp_path: Path) -> None:
    grey = read_plain_png(_saved(tmp_path / "grey.png", GREY))
    assert grey is not None
    assert np.array_equal(grey, GREY)
    colours = read_plain_png(_saved(tmp_path / "colours.png", COLOURS))
    assert colours is not None
    assert np.array_equal(colours[..., ::-1], COLOURS)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
def test_other_pixels_are_left_alone(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(GREY.astype(np.uint16) if mode == "I;16" else GREY)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "m.png")
    assert read_plain_png(tmp_path / "m.png") is None


def test_exif_transparency_and_animation_are_left_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _saved(tmp_path / "exif.png", GREY, exif=exif)
    _saved(tmp_path / "clear.png", GREY, transparency=0)
    Image.fromarray(GREY).save(
        tmp_path / "moving.png", save_all=True, append_images=[Image.fromarray(255 - GREY)]
    )
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n       4\n4d4d002a\n")
    _saved(tmp_path / "text.png", GREY, pnginfo=text)
    for name in ("exif", "clear", "moving", "text"):
        assert read_plain_png(tmp_path / f"{name}.png") is None


def test_other_text_is_no_hindrance(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "a drawing program")
    assert read_plain_png(_saved(tmp_path / "m.png", GREY, pnginfo=text)) is not None


@pytest.mark.parametrize("place", [3, 20, 60, 500, -20, -3])
def test_no_damaged_file_is_read(
    place: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(_saved(tmp_path / "m.png", GREY).read_bytes())
    data[place] ^= 4
    (tmp_path / "m.png").write_bytes(data)
    assert read_plain_png(tmp_path / "m.png") is None
    assert capfd.readouterr().err == ""  # libpng would say something


@pytest.mark.parametrize("length", [4, 8, 20, 40, 1000, -1, -8, -13])
def test_no_cut_file_is_read(length: int, tmp_path: Path) -> None:
    data = _saved(tmp_path / "m.png", GREY).read_bytes()
    (tmp_path / "m.png").write_bytes(data[:length])
    assert read_plain_png(tmp_path / "m.png") is None


def test_chunks_in_order_but_bad_content_is_an_error_of_the_mask(tmp_path: Path) -> None:
    data = _saved(tmp_path / "m.png", GREY).read_bytes()
    start = data.index(b"IDAT") - 4
    body = b"IDAT" + b"not compressed by zlib"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "m.png").write_bytes(data[:start] + chunk + data[-12:])
    with pytest.raises(CrackError, match=r"m\.png cannot be read"):
        read_mask(tmp_path / "m.png")


def test_a_strange_chunk_is_no_hindrance(tmp_path: Path) -> None:
    data = _saved(tmp_path / "m.png", GREY).read_bytes()
    (tmp_path / "m.png").write_bytes(_with_chunk(data, b"crAk", b"whatever"))
    assert np.array_equal(read_mask(tmp_path / "m.png"), GREY)
