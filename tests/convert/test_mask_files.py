"""Masks of every kind in use read as the same crack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from crack_data.convert.cleaning import PRESETS, find_cracks
from crack_data.convert.mask_files import MaskImage, count_values, read_mask
from crack_data.convert.mask_values import choose_reading
from crack_data.errors import CrackError

CRACK = np.zeros((60, 80), np.uint8)
CRACK[20:26, 5:70] = 1


def _palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(CRACK, "L").convert("P")
    image.putdata(CRACK.ravel().tolist())
    image.putpalette(colours)
    return image


def _rgb(background: tuple[int, int, int], crack: tuple[int, int, int]) -> Image.Image:
    levels = np.array([background, crack], np.uint8)
    return Image.fromarray(levels[CRACK])


def _rgba() -> Image.Image:
    pixels = np.zeros((*CRACK.shape, 4), np.uint8)
    pixels[..., :3] = 255
    pixels[..., 3] = CRACK * 255
    return Image.fromarray(pixels)


KINDS = {
    "0_255.png": Image.fromarray(CRACK * np.uint8(255)),
    "0_1.png": Image.fromarray(CRACK),
    "one_bit.png": Image.fromarray(CRACK.astype(bool)),
    "one_bit.bmp": Image.fromarray(CRACK.astype(bool)),
    "one_bit.tif": Image.fromarray(CRACK.astype(bool)),
    "palette.png": _palette([0, 0, 0, 128, 0, 0]),
    "white_palette.png": _palette([255, 255, 255, 200, 0, 0]),
    "grey.png": Image.fromarray(CRACK * np.uint8(150)),
    "dark_on_light.png": Image.fromarray((1 - CRACK) * np.uint8(255)),
    "rgb.png": _rgb((0, 0, 0), (255, 255, 255)),
    "number_in_blue.png": _rgb((0, 0, 0), (0, 0, 1)),
    "red_on_black.png": _rgb((0, 0, 0), (255, 0, 0)),
    "red_on_white.png": _rgb((255, 255, 255), (255, 0, 0)),
    "rgba_alpha_only.png": _rgba(),
    "rgba.png": _rgb((0, 0, 0), (255, 255, 255)).convert("RGBA"),
    "rgba.webp": _rgb((0, 0, 0), (255, 255, 255)).convert("RGBA"),
    "sixteen.png": Image.fromarray(CRACK.astype(np.uint16) * 65535),
    "sixteen_labels.png": Image.fromarray(CRACK.astype(np.uint16)),
    "twelve.tif": Image.fromarray(CRACK.astype(np.uint16) * 4095),
    "float.tif": Image.fromarray(CRACK.astype(np.float32)),
    "endless.tif": Image.fromarray(
        np.where(
            CRACK, np.where(np.cumsum(CRACK).reshape(CRACK.shape) == 1, np.inf, 0.9), 0
        ).astype(np.float32)
    ),
    "ringing.jpg": Image.fromarray(CRACK * np.uint8(255)),
}


def _crack(mask: MaskImage) -> np.ndarray:
    """The mask by itself, read as a set of one and cleaned."""
    grey, _ = choose_reading([count_values(mask)]).apply(mask)
    return (find_cracks(grey, PRESETS["thin"]) > 0).view(np.uint8)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_same_mask(name: str, tmp_path: Path) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    KINDS[name].save(tmp_path / name, **options)
    assert np.array_equal(_crack(read_mask(tmp_path / name)), CRACK)


@pytest.mark.parametrize(
    ("name", "options"), [("m.webp", {"quality": 75}), ("m.tif", {"compression": "jpeg"})]
)
def test_lossy_files_are_told_whatever_their_format(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    KINDS["red_on_black.png"].save(tmp_path / name, **options)
    mask = read_mask(tmp_path / name)
    assert mask.lossy
    assert (_crack(mask) == CRACK).mean() > 0.98


def test_a_palette_is_read_alike_in_all_masks_of_a_set(tmp_path: Path) -> None:
    """Of the palette black, white, red, a mask may use the first two only."""
    _palette([0, 0, 0, 255, 255, 255, 255, 0, 0]).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").values, CRACK)
    _palette([255, 255, 255, 0, 0, 0]).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").values, 255 * (1 - CRACK))


def test_several_pages_are_refused_but_for_smaller_copies_of_the_first(tmp_path: Path) -> None:
    first = Image.fromarray(CRACK)
    small = first.resize((40, 30), Image.Resampling.NEAREST)
    first.save(tmp_path / "m.tif", save_all=True, append_images=[small])
    assert np.array_equal(read_mask(tmp_path / "m.tif").values, CRACK)
    first.save(tmp_path / "m.tif", save_all=True, append_images=[first])
    with pytest.raises(CrackError, match=r"m\.tif .*several pictures; save each as a file"):
        read_mask(tmp_path / "m.tif")


@pytest.mark.parametrize(
    ("colour", "value"), [((255, 0, 0), 0xFF0000), ((0, 0, 0), 255), ((1, 1, 1), 1)]
)
def test_a_colour_on_transparent_ground_is_that_colour_unless_it_is_grey(
    colour: tuple[int, int, int], value: int, tmp_path: Path
) -> None:
    pixels = np.dstack([_rgb(colour, colour), CRACK * np.uint8(255)])
    Image.fromarray(pixels).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").values, CRACK.astype(np.int32) * value)


def test_an_empty_jpeg_is_empty_whatever_its_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 9, (60, 80), np.uint8)
    Image.fromarray(noise).save(tmp_path / "m.jpg")
    assert not _crack(read_mask(tmp_path / "m.jpg")).any()


def test_exif_orientation_of_a_mask_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(CRACK * np.uint8(255)).save(tmp_path / "m.png", exif=exif)
    expected = np.rot90(CRACK * np.uint8(255), -1)
    assert np.array_equal(read_mask(tmp_path / "m.png").values, expected)


def test_crackforest_ground_truth(tmp_path: Path) -> None:
    truth = {"Segmentation": CRACK.astype(np.uint16) + 1, "Boundaries": CRACK > 0}
    savemat(tmp_path / "m.mat", {"groundTruth": truth})
    assert np.array_equal(_crack(read_mask(tmp_path / "m.mat")), CRACK)


def test_formats_that_are_not_listed_are_never_opened(tmp_path: Path) -> None:
    # Pillow starts Ghostscript for this one.
    (tmp_path / "m.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(CrackError, match=r"m\.png is damaged, or no PNG, JPEG"):
        read_mask(tmp_path / "m.png")


def test_a_huge_mask_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.new("1", (20000, 10000)).save(tmp_path / "m.png")
    with pytest.raises(CrackError, match=r"m\.png cannot be read .*20000"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("name", ["m.png", "m.mat"])
def test_bad_files_are_named(name: str, tmp_path: Path) -> None:
    KINDS["0_255.png"].save(tmp_path / "whole.png")
    truncated = (tmp_path / "whole.png").read_bytes()[:-30]
    savemat(tmp_path / "other.mat", {"mask": CRACK})
    for data in (b"", b"no picture at all", truncated, (tmp_path / "other.mat").read_bytes()):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CrackError, match=f"{name} (cannot be read as|is damaged, or no) PNG"):
            read_mask(tmp_path / name)


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(CrackError, match=r"m\.png cannot be read: No such file"):
        read_mask(tmp_path / "m.png")


def test_colours_of_palettes_that_do_not_begin_with_black_are_those(tmp_path: Path) -> None:
    """As Pillow writes them, with a palette of its own in each file."""
    for order, crack in (([255, 0, 0, 0, 0, 0], 1 - CRACK), ([0, 0, 0, 255, 0, 0], CRACK)):
        image = Image.fromarray(crack.astype(np.uint8))
        image.putpalette(order)
        image.save(tmp_path / "m.png")
        mask = read_mask(tmp_path / "m.png")
        assert mask.colours == (order[0] == 255)
        assert np.array_equal(mask.values > 0, CRACK > 0)


def test_16_bits_a_channel_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), np.dstack([CRACK.astype(np.uint16)] * 3))
    with pytest.raises(CrackError, match=r"m\.png .*16 bits a channel.* save it in grey"):
        read_mask(tmp_path / "m.png")
    white = CRACK.astype(np.uint16) * 65535
    for channels in ([white] * 3, [white * 0, white * 0, white]):  # and red
        cv2.imwrite(str(tmp_path / "m.png"), np.dstack(channels))
        assert np.array_equal(read_mask(tmp_path / "m.png").values > 127, CRACK > 0)


def test_a_palette_of_several_classes_gives_numbers_whatever_its_first_colour(
    tmp_path: Path,
) -> None:
    _palette([120, 120, 120, 180, 120, 120, 6, 230, 230]).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").values, CRACK)


def test_a_mask_of_many_megapixels_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (10000, 9000)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").values.shape == (9000, 10000)
