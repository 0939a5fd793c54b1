"""Mask files of any kind in use → one grey array."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..errors import CrackError
from ..png import read_plain_png
from .components import ByteMask

EXIF_ORIENTATION = 0x0112
LOSSY_FORMATS = ("JPEG", "MPO")
# Below this a lossy mask holds nothing but compression noise.
LOSSY_FLOOR = 64
# Channels that differ less than this are grey: lossy files tint grey a little.
GREY_SPREAD = 32


def read_mask(path: str | os.PathLike[str]) -> ByteMask:
    """Read a mask, upright by EXIF, as HxW uint8.

    Colours become their distance from the commonest colour, wider ranges than 8 bits are scaled
    to their maximum, and CrackForest's ``.mat`` gives 0 and 1.

    Raises:
        CrackError: the file is missing, not an image, or damaged.
    """
    if Path(path).suffix.lower() == ".mat":
        return _read_mat(path)
    try:
        pixels = read_plain_png(path)
        grey, lossy = _by_pillow(path) if pixels is None else (_of_plain(pixels), False)
    except Exception as error:  # Pillow's decoders raise a dozen types, all meaning a bad file
        raise CrackError(f"mask {path} cannot be read: {reason(error, path)}") from error
    if lossy and grey.size and int(grey.max()) < LOSSY_FLOOR:
        return np.zeros_like(grey)
    return grey


def _of_plain(pixels: npt.NDArray[np.uint8]) -> ByteMask:
    if pixels.ndim == 2:
        return pixels
    blue, green, red = cv2.split(pixels)
    return _from_planes(np.asarray(red), np.asarray(green), np.asarray(blue))


def _by_pillow(path: str | os.PathLike[str]) -> tuple[ByteMask, bool]:
    """The grey mask, and whether its format is a lossy one."""
    with Image.open(path) as image:
        turned = image.getexif().get(EXIF_ORIENTATION, 1) != 1
        grey = _to_grey(ImageOps.exif_transpose(image) if turned else image)
        return grey, image.format in LOSSY_FORMATS


def reason(error: Exception, path: str | os.PathLike[str]) -> str:
    """Say in a few words why Pillow could not read a file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _to_grey(image: Image.Image) -> ByteMask:
    if image.mode == "1":
        return np.asarray(image, np.uint8) * np.uint8(255)
    if image.mode == "L":
        return np.asarray(image)
    if image.mode.startswith(("I", "F")):
        return _scale(np.asarray(image))
    if "A" in image.mode or "transparency" in image.info:
        return _from_rgba(np.asarray(image.convert("RGBA")))
    image = image if image.mode == "RGB" else image.convert("RGB")
    # Plane by plane: an array of all three would have to be taken apart again.
    return _from_planes(*(_plane(image, band) for band in "RGB"))


def _plane(image: Image.Image, band: str) -> ByteMask:
    data = np.frombuffer(image.tobytes("raw", band), np.uint8)
    return data.reshape(image.height, image.width)


def _scale(values: np.ndarray) -> ByteMask:
    """16-bit, 32-bit or float → 8 bits; numbers that fit into 8 bits stay as they are."""
    values = np.nan_to_num(np.maximum(values, 0).astype(np.float64))
    high = values.max(initial=0)
    if high > 255 or (0 < high <= 1 and (values % 1).any()):
        values = values * (255 / high)
    return np.rint(values).astype(np.uint8)


def _from_planes(*planes: ByteMask) -> ByteMask:
    """The green plane of a grey mask; of a coloured one, the distance from its commonest colour."""
    red, green, blue = planes
    if max(cv2.norm(green, other, cv2.NORM_INF) for other in (red, blue)) < GREY_SPREAD:
        return green
    packed = red.astype(np.uint32) << 16 | green.astype(np.uint32) << 8 | blue
    found, counts = np.unique(packed, return_counts=True)
    common = int(found[counts.argmax()])
    levels = (common >> 16, common >> 8 & 255, common & 255)
    distances = [
        cv2.absdiff(plane, np.full_like(plane, level))
        for plane, level in zip(planes, levels, strict=True)
    ]
    return np.maximum.reduce(distances)


def _from_rgba(pixels: np.ndarray) -> ByteMask:
    """The alpha channel where the mask was drawn in it alone, else the opaque pixels' colours."""
    colours, alpha = pixels[:, :, :3], pixels[:, :, 3]
    plain = colours[alpha > 0]
    if alpha.min(initial=255) < 255 and plain.size and (plain == plain[0]).all():
        return np.ascontiguousarray(alpha)
    opaque: Any = cv2.split(np.where(alpha[:, :, None] > 0, colours, np.uint8(0)))
    return _from_planes(*opaque)


def _read_mat(path: str | os.PathLike[str]) -> ByteMask:
    from scipy.io import loadmat  # slow to import, and few sets need it

    try:
        content = loadmat(path)
        values = _mat_segmentation(content)
    except Exception as error:  # scipy raises many types, all meaning a bad file
        raise CrackError(f"mask {path} cannot be read: {reason(error, path)}") from error
    if values is None:
        raise CrackError(f"mask {path} holds neither groundTruth.Segmentation nor one 2-D array")
    return values


def _mat_segmentation(content: dict[str, Any]) -> ByteMask | None:
    """CrackForest numbers the background 1 and cracks from 2 on."""
    truth = content.get("groundTruth")
    if truth is not None and truth.dtype.names and "Segmentation" in truth.dtype.names:
        return (np.asarray(truth["Segmentation"].flat[0]) > 1).astype(np.uint8)
    arrays = [
        value
        for key, value in content.items()
        if not key.startswith("_") and isinstance(value, np.ndarray) and value.ndim == 2
        and value.dtype.kind in "buif" and min(value.shape) > 1
    ]  # fmt: skip
    return _scale(arrays[0]) if len(arrays) == 1 else None
