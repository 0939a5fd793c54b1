"""What the converter needs of a photo: that it can be read, its size, a small grey version."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..errors import CrackError
from .mask_files import EXIF_ORIENTATION, reason

SCALE = 4  # of the photo to its grey version


def probe_photo(path: str | os.PathLike[str]) -> tuple[int, int, npt.NDArray[np.uint8]]:
    """Decode a photo to the end, as cheaply as its format allows.

    Returns:
        Width and height in px, upright by EXIF, and the upright photo in grey at a quarter of
        that size, (H+3)//4 x (W+3)//4.

    Raises:
        CrackError: the file is missing, not an image, or damaged.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            quarter = (-(-width // SCALE), -(-height // SCALE))
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            # A JPEG is still read to its end, but only decoded at this size. Draft takes the
            # largest scale that is not below the size asked for.
            image.draft("L", (max(1, width // SCALE), max(1, height // SCALE)))
            image.load()
            grey = _grey(image)
            if grey.size != quarter:
                grey = grey.resize(quarter, Image.Resampling.BOX)
            if orientation != 1:
                grey = ImageOps.exif_transpose(_with_orientation(grey, orientation))
    except Exception as error:  # Pillow's decoders raise a dozen types, all meaning a bad file
        raise CrackError(f"photo {path} cannot be read: {reason(error, path)}") from error
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return width, height, np.asarray(grey)


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float32)
        top = float(values.max(initial=0)) or 1.0
        return Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def _with_orientation(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[EXIF_ORIENTATION] = orientation
    return image
