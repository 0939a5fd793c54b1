"""Masks of more than 8 bits are shares of what their set's highest value stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crack_data.convert.cleaning import PRESETS
from crack_data.convert.conversion import convert
from crack_data.convert.mask_files import MaskImage, count_values
from crack_data.convert.worker import ConversionOptions

SHAPE = (80, 120)


def _convert(folder: Path, masks: list[np.ndarray], **options: Any) -> list[int]:
    """The pixels that each of these masks has as crack, and nothing cleaned away."""
    for number, values in enumerate(masks):
        for name, image in (("images", Image.new("RGB", SHAPE[::-1])), ("masks", values)):
            (folder / name).mkdir(exist_ok=True)
            image = image if name == "images" else Image.fromarray(image)
            image.save(folder / name / f"{number}.tif")
    paths = folder / "images", folder / "masks", folder / "set.json"
    result = convert(ConversionOptions(*paths, **options))
    return [record.crack_area for record in result.records]


@pytest.mark.parametrize("top", [1.0, 4095, 65535])
@pytest.mark.parametrize("faint", [0.45, 0.3, 0.1, 0.004])
def test_what_is_faint_in_a_set_of_shares_is_no_crack(
    top: float, faint: float, tmp_path: Path
) -> None:
    smooth = np.hypot(*np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j])
    shares = [np.clip(1.2 - smooth, 0, 1), faint * np.clip(1 - smooth, 0, 1), smooth * 0]
    masks = [(top * share).astype(np.float32 if top == 1 else np.uint16) for share in shares]
    sure, doubtful, free = _convert(tmp_path, masks)
    assert sure == pytest.approx(np.count_nonzero(shares[0] > 0.5), rel=0.01)
    assert (doubtful, free) == (0, 0)


def test_masks_of_two_levels_among_them_are_read_by_themselves(tmp_path: Path) -> None:
    smooth = np.hypot(*np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j])
    line = np.zeros(SHAPE, bool)
    line[20:24, 5:110] = True
    shares = (65535 * np.clip(1.2 - smooth, 0, 1)).astype(np.uint16)
    masks = [shares, line * np.uint16(300), line * np.uint8(255), line * np.uint8(1)]
    assert _convert(tmp_path, masks)[1:] == [420, 420, 420]


@pytest.mark.parametrize("preset", ["thin", "classic"])
@pytest.mark.parametrize(
    "levels",
    [(0, 256), (0, 1025), (0, 4096), (0, 32768), (0, 65535), (0, 0.5), (256, 512), (1000, 1256)],
)
def test_two_levels_are_background_and_crack(
    levels: tuple[float, float], preset: str, tmp_path: Path
) -> None:
    line = np.zeros(SHAPE, bool)
    line[20:24, 5:110] = True
    dtype = np.float32 if levels[1] < 1 else np.uint16
    mask = np.where(line, *levels[::-1]).astype(dtype)
    assert _convert(tmp_path, [mask], cleaning=PRESETS[preset]) == [420]


@pytest.mark.parametrize("levels", [(256, 0), (512, 256)])
def test_the_dark_one_is_crack_where_most_of_the_set_is_light(
    levels: tuple[int, int], tmp_path: Path
) -> None:
    line = np.zeros(SHAPE, bool)
    line[20:24, 5:110] = True
    drawn, free = (np.where(x, *levels[::-1]).astype(np.uint16) for x in (line, line & False))
    assert _convert(tmp_path, [drawn, free, free]) == [420, 0, 0]


@pytest.mark.parametrize(("invert", "dark"), [("auto", True), ("yes", True), ("no", False)])
def test_shares_that_are_mostly_light(invert: str, dark: bool, tmp_path: Path) -> None:
    shares = np.ones(SHAPE)
    shares[20:24, 5:110] = np.linspace(0, 0.3, 105)
    (found,) = _convert(tmp_path, [(60000 * shares).astype(np.uint16)], invert=invert)
    assert found == (420 if dark else shares.size - 420)


def test_a_faint_share_everywhere_is_no_crack(tmp_path: Path) -> None:
    shares = np.linspace(0, 65535, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.uint16)
    assert _convert(tmp_path, [shares, np.full_like(shares, 655)])[1] == 0


def test_a_faint_file_of_percentages_is_faint_in_its_set(tmp_path: Path) -> None:
    smooth = 97.3 * np.clip(1.2 - np.hypot(*np.mgrid[-1:1:80j, -1:1:120j]), 0, 1)
    masks = [smooth.astype(np.float32), (smooth / 110).astype(np.float32)]
    sure, faint, rounded = _convert(tmp_path, [*masks, np.rint(smooth).astype(np.float32)])
    assert sure == pytest.approx(np.count_nonzero(smooth > smooth.max() / 2), rel=0.01)
    assert faint == 0
    assert rounded == pytest.approx(sure, rel=0.05)


def test_the_counts_of_a_smooth_mask_take_little_memory() -> None:
    values = (np.arange(300 * 400).reshape(300, 400) % 60000 + 7).astype(np.int32)
    found = count_values(MaskImage(values, deep=True)).pixels
    assert 1000 < len(found) <= 1500
    assert (min(found), max(found), sum(found.values())) == (7, 60006, values.size)
