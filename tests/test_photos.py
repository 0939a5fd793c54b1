from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from crack_data.errors import CrackError
from crack_data.photos import PhotoError, decode_photo, photo_size, probe_photo, read_photo


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


def tiff(samples: np.ndarray, **options: object) -> bytes:
    """A TIFF of any sample type; (H, W, 3) is RGB."""
    kind = {"photometric": "rgb"} if samples.ndim == 3 else {}
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **{**kind, **options})
    return stream.getvalue()


def planar(samples: np.ndarray) -> bytes:
    """A TIFF that keeps one colour plane after the other."""
    return tiff(np.moveaxis(samples, 2, 0), photometric="rgb", planarconfig="separate")


def by_opencv(suffix: str) -> Callable[[np.ndarray], bytes]:
    def encode_samples(samples: np.ndarray) -> bytes:
        return cv2.imencode(suffix, samples[..., ::-1] if samples.ndim == 3 else samples)[
            1
        ].tobytes()

    return encode_samples


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


def bgr(twin: np.ndarray) -> np.ndarray:
    return twin[:, :, ::-1] if twin.ndim == 3 else np.repeat(twin[:, :, None], 3, 2)


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
    inverted[0, 0] = np.iinfo(kind).max
    decoded = decode_photo(tiff(inverted, photometric="miniswhite"))
    assert np.abs(decoded[:, :, 0].astype(int) - rgb[:, :, 0]).max() <= 1


def test_16_bits_with_transparency(rgb: np.ndarray) -> None:
    wide = np.dstack([rgb, np.full((40, 60), 255, np.uint8)]).astype(np.uint16) * 257
    data = cv2.imencode(".png", wide[:, :, [2, 1, 0, 3]])[1].tobytes()
    assert np.abs(decode_photo(data).astype(int) - rgb[:, :, ::-1]).max() <= 1


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


def turned_tiff(samples: np.ndarray, orientation: int) -> bytes:
    return tiff(samples, extratags=[(0x0112, "H", 1, orientation, True)])


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
    with pytest.raises(PhotoError) as caught:
        decode_photo(data[: len(data) * 2 // 3])
    assert caught.value.kind == "corrupt"


def test_a_damaged_body_is_corrupt(rgb: np.ndarray) -> None:
    data = bytearray(encode(Image.fromarray(rgb), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(PhotoError) as caught:
        decode_photo(bytes(data))
    assert caught.value.kind == "corrupt"


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
        read_photo(cases / "bombs" / "f32.tif", max_pixels=50_000_000)
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
    for read in (read_photo, photo_size):
        with pytest.raises(CrackError, match=r"absent\.jpg"):
            read(tmp_path / "absent.jpg")
    with pytest.raises(PhotoError, match=r"bad\.jpg"):
        photo_size(bad)
