"""One picture with many predictions, to look at what fails and why."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..files import atomic_write
from .pixel_metrics import PIXEL_TOLERANCE, BoolMask, dilate

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

# RGB. Near misses, within the 2 px of the tolerant metrics, are pale.
HIT: Colour = (60, 220, 60)
FALSE: Colour = (255, 40, 40)
NEAR_FALSE: Colour = (255, 190, 120)
MISSED: Colour = (50, 90, 255)
NEAR_MISSED: Colour = (150, 210, 255)
_LEGEND = (
    ("found", HIT),
    ("false", FALSE),
    ("false by at most 2 px", NEAR_FALSE),
    ("missed", MISSED),
    ("missed by at most 2 px", NEAR_MISSED),
)
_INK: Colour = (235, 235, 235)
_PAPER: Colour = (24, 24, 24)
_LINE = 20  # height of a line of text, px
_GAP = 4
_BETWEEN_STRIPS = 16


class Strip(NamedTuple):
    """One photo's part of the sheet.

    Attributes:
        photo: BGR uint8, shape (H, W, 3).
        truth: ground truth, bool, shape (H, W).
        mask: the drawn mask, bool, shape (H, W).
        title: one line of text above the photo.
    """

    photo: Picture
    truth: BoolMask
    mask: BoolMask
    title: str


def write_contact_sheet(
    path: str | os.PathLike[str], strips: Iterable[Strip], columns: int = 2, width: int = 240
) -> None:
    """Write a PNG of photo, truth, prediction and error map side by side, a strip per photo.

    Args:
        path: the PNG.
        strips: at least one; only one at a time is held at full size.
        columns: strips beside each other.
        width: of each of a strip's four pictures, px.

    Raises:
        ValueError: a photo and its masks differ in size.
        CrackError: the file cannot be written.
    """
    drawn = [_draw_strip(strip, width) for strip in strips]
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [max(strip.height for strip in row) + _GAP for row in rows]
    size = columns * (drawn[0].width + _BETWEEN_STRIPS) - _BETWEEN_STRIPS, _LINE + sum(heights)
    sheet = Image.new("RGB", size, _PAPER)
    _draw_legend(sheet)
    top = _LINE
    for row, height in zip(rows, heights, strict=True):
        for index, strip in enumerate(row):
            sheet.paste(strip, (index * (strip.width + _BETWEEN_STRIPS), top))
        top += height
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def error_map(photo: Picture, truth: BoolMask, mask: BoolMask) -> Picture:
    """The photo in dim grey under the colours of the legend: RGB uint8, shape (H, W, 3).

    Arguments as in `Strip`.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY) // 3
    result = np.repeat(grey[:, :, None], 3, axis=2)
    false, missed = mask & ~truth, truth & ~mask
    result[false] = FALSE
    result[false & dilate(truth, PIXEL_TOLERANCE)] = NEAR_FALSE
    result[missed] = MISSED
    result[missed & dilate(mask, PIXEL_TOLERANCE)] = NEAR_MISSED
    result[truth & mask] = HIT
    return result.astype(np.uint8, copy=False)


def _draw_strip(strip: Strip, width: int) -> Image.Image:
    if not strip.photo.shape[:2] == strip.truth.shape == strip.mask.shape:
        raise ValueError(f"{strip.title}: the photo and its masks differ in size")
    pictures = (
        strip.photo[:, :, ::-1],
        _as_picture(strip.truth),
        _as_picture(strip.mask),
        error_map(strip.photo, strip.truth, strip.mask),
    )
    height = max(1, math.ceil(strip.photo.shape[0] * width / strip.photo.shape[1]))
    result = Image.new("RGB", (4 * (width + _GAP) - _GAP, _LINE + height), _PAPER)
    ImageDraw.Draw(result).text((2, 3), strip.title, fill=_INK, font=_font())
    for index, picture in enumerate(pictures):
        # Averaging keeps a thin crack visible, if paler, where taking the nearest pixel loses it.
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        result.paste(Image.fromarray(small), (index * (width + _GAP), _LINE))
    return result


def _draw_legend(sheet: Image.Image) -> None:
    draw = ImageDraw.Draw(sheet)
    left = 2
    for text, colour in (("photo | truth | prediction | error:", _INK), *_LEGEND):
        draw.text((left, 3), text, fill=colour, font=_font())
        left += round(draw.textlength(text, font=_font())) + 16


def _as_picture(mask: BoolMask) -> Picture:
    return np.repeat((mask * np.uint8(255))[:, :, None], 3, axis=2)


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: file names hold more than ASCII."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)
