from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from crack_data.errors import CrackError
from crack_data.photos import PhotoError, decode_photo, read_photo


@pytest.fixture
def rgb() -> np.ndarray:
    """A smooth photo whose corners differ, (40, 60, 3)."""
    y, x = np.mgrid[:40, :60]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=2).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


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


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_keep_the_upper_8(rgb: np.ndarray, suffix: str, channels: int) -> None:
    samples = (rgb[:, :, :channels].astype(np.uint16) << 8) + 77
    _, data = cv2.imencode(suffix, samples)
    expected = np.broadcast_to(rgb[:, :, :channels], rgb.shape)
    assert np.abs(decode_photo(data.tobytes()).astype(int) - expected).max() <= 1


def test_float_tiff() -> None:
    grey = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
    decoded = decode_photo(encode(Image.fromarray(grey), "TIFF"))
    assert np.array_equal(decoded[:, :, 0], np.rint(grey * 255))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    decoded = decode_photo(data)
    assert decoded.shape == (20, 30, 3)
    assert np.abs(decoded.astype(int) - [0, 0, 255]).max() < 6


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(rgb: np.ndarray, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(rgb), kind, exif=exif)
    plain = decode_photo(encode(Image.fromarray(rgb), kind))
    assert np.array_equal(decode_photo(data), TURNS[orientation](plain))


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 1000, b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_not_a_photo(data: bytes) -> None:
    with pytest.raises(PhotoError) as caught:
        decode_photo(data)
    assert caught.value.kind == "not_a_photo"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_cut_off(rgb: np.ndarray, kind: str) -> None:
    data = encode(Image.fromarray(np.tile(rgb, (4, 4, 1))), kind)
    with pytest.raises(PhotoError) as caught:
        decode_photo(data[: len(data) * 2 // 3])
    assert caught.value.kind == "corrupt"


def test_a_damaged_body_is_corrupt(rgb: np.ndarray) -> None:
    data = bytearray(encode(Image.fromarray(rgb), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(PhotoError) as caught:
        decode_photo(bytes(data))
    assert caught.value.kind == "corrupt"


def test_too_large_is_told_by_the_header(rgb: np.ndarray) -> None:
    data = encode(Image.fromarray(rgb), "PNG")
    assert decode_photo(data, max_pixels=2400).shape == rgb.shape
    with pytest.raises(PhotoError, match="60 x 40") as caught:
        decode_photo(data, max_pixels=2399)
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize("side", [20_000, 100_000])
def test_a_bomb_is_not_decoded(side: int) -> None:
    data = bytearray(encode(Image.new("L", (8, 8)), "BMP"))
    data[18:22] = data[22:26] = side.to_bytes(4, "little")
    with pytest.raises(PhotoError) as caught:
        decode_photo(bytes(data))
    assert caught.value.kind == "too_large"


def test_read_photo_names_the_file(tmp_path: Path, rgb: np.ndarray) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    Image.fromarray(rgb).save(good)
    bad.write_bytes(b"nothing")
    assert np.array_equal(read_photo(good), rgb[:, :, ::-1])
    with pytest.raises(PhotoError, match=r"bad\.jpg"):
        read_photo(bad)
    with pytest.raises(CrackError, match=r"absent\.jpg"):
        read_photo(tmp_path / "absent.jpg")
