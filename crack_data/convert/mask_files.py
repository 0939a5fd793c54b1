"""Mask files of any kind in use → one array of values, and what values it holds."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, ImageSequence, UnidentifiedImageError

from ..errors import CrackError, as_crack_error
from ..photos import MAX_PIXELS
from ..storage import AnyPath, read_bytes
from .coco import cut_instances

Values = npt.NDArray[Any]  # HxW, uint8 or int32

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # as for photos, no others
GREY_SPREAD = 32  # channels that differ less are grey: lossy files tint grey a little
CLASSES, VOID = 20, 255  # Pascal VOC numbers 20 classes; 255 beside such numbers is "ignore"
# A level is a label where at most this share of its pixels touches yet other levels (else it is
# the grey rim of something), and its regions have at least so many px on average (else noise).
_TOUCHING, _REGION = 0.5, 6
# More values than any mask has labels, and how many of such a one are kept: all take memory.
_MANY, _KEPT = 20_000, 1500
NEAR = 16  # grey levels this near may be one that lossy compression has changed
# A level of a lossy mask is a label where at least so many pixels differ from their neighbours by
# no more than this.
_FLAT_PIXELS, _FLAT = 64, 8
_GREY = 0x010101  # times a level: that grey as 0xRRGGBB


@dataclass(frozen=True)
class MaskImage:
    """The pixels of a mask file, upright."""

    values: Values  # HxW; grey levels and label numbers as uint8 or int32, colours as 0xRRGGBB
    colours: bool = False  # whether the values are colours
    lossy: bool = False  # whether compression may have changed them
    deep: bool = False  # whether the file's numbers have more than 8 bits
    scale: int = 0  # of fractions: 65535 where none is over 1, else 1; 0: they are whole numbers


@dataclass
class ValueCounts:
    """The values of one mask."""

    pixels: dict[int, int]  # of each value that it holds, in ascending order
    regions: dict[int, int] = field(default_factory=dict)  # of each label; none of two levels
    colours: bool = False
    lossy: bool = False
    deep: bool = False
    scale: int = 0

    def in_colours(self) -> ValueCounts:
        """The same counts, of grey levels as the colours that they are."""
        if self.colours:
            return self
        regions = {value * _GREY: number for value, number in self.regions.items()}
        colours = to_rgb(np.array([*self.pixels])).tolist()
        pixels = dict(zip(colours, self.pixels.values(), strict=True))
        return replace(self, pixels=pixels, regions=regions, colours=True)


def to_rgb(levels: Values) -> Values:
    """Grey levels as the colours that they are, 0xRRGGBB."""
    return np.minimum(levels, 255).astype(np.int32) * _GREY


def read_mask(path: AnyPath) -> MaskImage:
    """Read a mask file; a `CrackError` where it is missing, no image, too large, or damaged.

    Palettes give indices, levels where all colours are grey, colours where they are two and the
    first is not black; what is drawn in the alpha channel alone gives that; CrackForest's ``.mat``
    gives 0 and 1; fractions of 1 become 0 to 65535.
    """
    content = read_bytes(path)
    data = io.BytesIO(content)
    with as_crack_error(f"mask {path} cannot be read as {', '.join(FORMATS)} or .mat"):
        if Path(path).suffix.lower() == ".mat":
            from scipy.io import loadmat  # slow to import, and few sets need it

            truth = loadmat(data)["groundTruth"]["Segmentation"].flat[0]
            return MaskImage((np.asarray(truth) > 1).astype(np.uint8))  # 1 is its background
        try:
            with warnings.catch_warnings():  # of the size, which is looked at below
                warnings.simplefilter("ignore")
                image = Image.open(data, formats=FORMATS)
        except UnidentifiedImageError as error:  # whose text differs from run to run
            raise CrackError(
                f"mask {path} is damaged, or no {', '.join(FORMATS)} that can be read; save it as "
                "PNG with 8 bits"
            ) from error
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has {image.size} px; the limit is {MAX_PIXELS}")
        first, *others = [page.size for page in ImageSequence.Iterator(image)]
        if first in others:  # those of other sizes are overviews, smaller copies of the first
            raise CrackError(
                f"mask {path} holds several pictures; save each as a file of its own: a_1.png, ..."
            )
        image.seek(0)
        _check_depth(image, content)
        lossy = image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"
        lossy |= image.format == "WEBP" and b"VP8 " in content  # a lossless one has VP8L
        return _to_values(ImageOps.exif_transpose(image), lossy)


def _check_depth(image: ImageFile.ImageFile, content: bytes) -> None:
    """Refuse numbers in the low 8 of 16 bits a channel, which Pillow does not read."""
    raw = [np.ravel(np.array(tile[3], object))[0] for tile in image.tile[:1]]
    if image.mode in ("RGB", "RGBA", "LA") and re.search(";16[BLN]", str(raw)):
        samples = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if samples is not None and np.atleast_3d(samples)[..., :3].max() < 256:  # alpha is fourth
            raise ValueError("of 16 bits a channel only the high 8 are read; save it in grey")


def _to_values(image: Image.Image, lossy: bool) -> MaskImage:
    transparent = "A" in image.mode or "transparency" in image.info
    if image.mode == "1" or (image.mode == "L" and not transparent):
        return MaskImage(np.asarray(image.convert("L")), lossy=lossy)
    if image.mode.startswith(("I", "F")):
        return _whole_numbers(np.asarray(image))
    if image.mode == "P" and not transparent:
        indices = np.asarray(image)
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        # Judged by all colours and not by those in use, so that it is alike in all masks of a set.
        grey = (colours == colours[:, :1]).all()
        if colours[0].any() and not grey and len(np.unique(colours, axis=0)) == 2:
            # Numbers count from black. Programs that count colours choose an order for each file.
            return _from_rgb(colours[indices], lossy)
        return MaskImage(colours[:, 0][indices] if grey else indices)
    if not transparent:
        return _from_rgb(np.asarray(image.convert("RGB")), lossy)
    pixels = np.asarray(image.convert("RGBA"))
    colours, alpha = pixels[..., :3], pixels[..., 3]
    opaque = colours[alpha > 0]
    if alpha.min() < 255 and opaque.size and (opaque == opaque[0]).all():
        if np.ptp(opaque[0]) == 0:
            level = int(opaque[0, 0]) or 255  # black is drawn in it alone
            return MaskImage(np.rint(alpha * (level / 255)).astype(np.uint8))
        alpha = np.greater(alpha, alpha.max() // 2).view(np.uint8)  # its colour is a class
    return _from_rgb(np.where(alpha[..., None] > 0, colours, np.uint8(0)), lossy)


def _whole_numbers(values: Values) -> MaskImage:
    """Numbers of any type → uint8 where they fit, else int32; fractions of 1 become 0 to 65535."""
    scale, most = 0, np.max(values, where=np.isfinite(values), initial=0)
    values = np.nan_to_num(np.maximum(values, 0), posinf=most)
    if values.dtype.kind == "f" and (values % 1).any():
        scale = 65535 if values.max() <= 1 else 1
        values = np.rint(values * scale)
    whole = np.minimum(values.astype(np.int64), 2**31 - 1)
    whole = whole.astype(np.uint8 if whole.max() <= 255 else np.int32)
    return MaskImage(whole, deep=True, scale=scale)


def _from_rgb(pixels: npt.NDArray[np.uint8], lossy: bool) -> MaskImage:
    """Grey levels where the channels hardly differ, else colours."""
    red, green, blue = cv2.split(pixels)
    if all(cv2.norm(green, other, cv2.NORM_INF) < GREY_SPREAD for other in (red, blue)):
        # The highest: label numbers may stand in one channel alone.
        return MaskImage(np.asarray(cv2.max(cv2.max(red, green), blue)), lossy=lossy)
    packed = red.astype(np.int32) << 16 | green.astype(np.int32) << 8 | blue
    return MaskImage(packed, colours=True, lossy=lossy)


def count_values(mask: MaskImage) -> ValueCounts:
    """Count the values of a mask, and the regions of those that look like labels."""
    values = mask.values
    if mask.colours and mask.lossy:
        values = values & 0xF0F0F0 | 0x080808  # a hundred thousand colours tell no more
    found = ValueCounts(_count(values), {}, mask.colours, mask.lossy, mask.deep, mask.scale)
    if mask.lossy and not mask.colours:
        found.regions = _flat_levels(values)
    elif len(found.pixels) > 2 and not mask.lossy:
        found.regions = _label_regions(values, found.pixels)
    if mask.deep and len(found.pixels) > _MANY:
        levels, pixels = np.array([*found.pixels.items()]).T
        kept = np.linspace(0, len(levels) - 1, _KEPT).astype(int)
        sums = np.add.reduceat(pixels, kept).tolist()
        found.pixels = dict(zip(levels[kept].tolist(), sums, strict=True))
    return found


def _flat_levels(grey: Values) -> dict[int, int]:
    """The levels of flat areas of a lossy mask if there are several, with their regions."""
    # Rims and ringing have all levels, but none that stays the same over 3x3 pixels.
    flat = cv2.dilate(grey, None) - cv2.erode(grey, None) <= _FLAT
    flat &= grey > 2 * NEAR
    pixels = np.bincount(grey[flat], minlength=256)
    regions: dict[int, int] = {}
    while True:
        around = np.convolve(pixels, np.ones(2 * NEAR + 1, np.int64), "same")
        middle = int(around.argmax())
        if around[middle] < _FLAT_PIXELS:
            return regions if len(regions) > 1 else {}
        lowest = max(middle - NEAR, 0)
        level = lowest + int(pixels[lowest : middle + NEAR + 1].argmax())
        near = flat & (cv2.inRange(grey, level - NEAR, level + NEAR) > 0)
        regions[level] = cv2.connectedComponents(near.view(np.uint8), connectivity=8)[0] - 1
        pixels[max(level - 2 * NEAR, 0) : level + 2 * NEAR + 1] = 0


def _label_regions(values: Values, counts: dict[int, int]) -> dict[int, int]:
    """The values that are labels, background apart, with the number of their regions."""
    background = 0 if 0 in counts else max(counts, key=lambda value: counts[value])
    # 0 is the background, or no value; so it may stand for the background in any case.
    front = np.where(values == background, 0, values)
    front = front if front.dtype == np.uint8 else front.astype(np.float32)
    highest = cv2.dilate(front, None)  # by 3x3
    lowest = cv2.erode(np.where(front == 0, highest.max(), front), None)
    mixed = _count(values[(front > 0) & (highest != lowest)])
    classes = are_classes(set(counts) - {background})
    regions = {}
    numbers = np.searchsorted([*counts], values) + 1
    pieces = cut_instances(numbers)
    for (value, pixels), (here, _, _) in zip(counts.items(), pieces, strict=True):
        is_rim = not classes and mixed.get(value, 0) > _TOUCHING * pixels
        if value == background or is_rim:
            continue
        number = cv2.connectedComponents(here, connectivity=8)[0] - 1
        if classes or pixels >= _REGION * number:
            regions[value] = number
    return regions


def _count(values: Values) -> dict[int, int]:
    """The pixels of each value of an array, in ascending order."""
    if values.dtype == np.uint8:
        return {value: n for value, n in enumerate(np.bincount(values.ravel()).tolist()) if n}
    found, pixels = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), pixels.tolist(), strict=True))


def are_classes(values: set[int]) -> bool:
    """Whether values other than the background's are class numbers as in Pascal VOC."""
    return all(value <= CLASSES or value == VOID for value in values) and values != {VOID}
