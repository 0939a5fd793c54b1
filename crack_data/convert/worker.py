"""One photo with its masks or drawn labels → its annotations and what the report says about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import CrackError
from ..photos import probe_photo
from .checks import check_pair, mean_width, perceptual_hash
from .cleaning import CleaningOptions, find_cracks
from .coco import annotation, digest
from .label_formats import draw_label
from .labels import LabelledPhoto
from .mask_files import ValueCounts, count_values, read_mask
from .mask_values import MaskReading
from .pairing import Pair

ByteMask = npt.NDArray[np.uint8]
Piece = tuple[ByteMask, int, int]  # an instance cut out by its box, and the box's corner x, y, px
Source = Pair | LabelledPhoto


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker needs to know, see `crack_data.convert.conversion.ConversionOptions`.

    Attributes:
        reading: how mask values are read.
        hash_photos: compute perceptual hashes.
    """

    cleaning: CleaningOptions
    reading: MaskReading
    instances: str = "components"
    mask_format: str = "rle"
    resize_masks: bool = False
    hash_photos: bool = False
    line_width: float = 3.0


@dataclass
class PairRecord:
    """What became of one photo and its masks or labels.

    Attributes:
        photo: path; file_name: relative to the image root.
        masks: paths of its masks, none for drawn labels.
        width, height: of the upright photo, px; 0 where it could not be read.
        annotations: JSON objects, see `crack_data.convert.coco.annotation`.
        instances: how many of them are cracks.
        crack_area: px; coverage: percent of the photo; mean_width: px.
        flags: see `crack_data.convert.checks.FLAGS`, with their values.
        photo_hash: perceptual hash, 0 where none was asked for.
        values: what values its masks hold.
        error: why the pair is unusable, "" if it is fine.
        split: name of the split, "" without splits.
        left_out: why a fine pair is not in the JSON, "" if it is in.
    """

    photo: str
    file_name: str
    masks: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    annotations: list[str] = field(default_factory=list)
    instances: int = 0
    crack_area: int = 0
    coverage: float = 0.0
    mean_width: float = 0.0
    flags: dict[str, float] = field(default_factory=dict)
    photo_hash: int = 0
    values: list[ValueCounts] = field(default_factory=list, compare=False, repr=False)
    error: str = ""
    split: str = ""
    left_out: str = ""

    @property
    def mask_digest(self) -> str:
        """Equal for equal masks, "" for those without crack."""
        if not self.instances:
            return ""
        return digest([f"{self.width}x{self.height}", *self.annotations])


def process_photo(source: Source, options: WorkerOptions) -> PairRecord:
    """Read, check, clean and encode one photo with its labels; errors are recorded, not raised."""
    masks = source.masks if isinstance(source, Pair) else ()
    record = PairRecord(source.photo, source.file_name, masks)
    try:
        width, height, grey = probe_photo(source.photo)
        pieces, ignored = find_pieces(source, (height, width), options, record.values)
    except CrackError as error:
        record.error = str(error)
        return record
    crack = union_of(pieces, (height, width))
    encoded = [annotation(*piece, (height, width), options.mask_format) for piece in pieces]
    if ignored is not None:
        void = (ignored > crack).view(np.uint8)
        encoded += [annotation(*piece, void.shape, "rle", crowd=True) for piece in _boxed(void)]
    record.width, record.height = width, height
    record.annotations, record.instances = encoded, len(pieces)
    record.crack_area = cv2.countNonZero(crack)
    record.coverage = 100 * record.crack_area / crack.size
    record.mean_width = mean_width(crack)
    record.flags = check_pair(source.stem, grey, crack)
    record.photo_hash = perceptual_hash(grey) if options.hash_photos else 0
    return record


def find_pieces(
    source: Source, shape: tuple[int, int], options: WorkerOptions, counts: list[ValueCounts]
) -> tuple[list[Piece], ByteMask | None]:
    """The instances of a photo, and its ignored pixels, HxW of 0 and 1, or None.

    Args:
        shape: height and width of the photo, px.
        counts: takes what values the masks hold.

    Raises:
        CrackError: a mask cannot be read, or does not fit the photo.
    """
    if isinstance(source, Pair):
        pieces, ignored = _pieces_of_masks(source, shape, options, counts)
    else:
        pieces, ignored = _pieces_of_labels(source, shape, options)
    if options.instances == "single" and len(pieces) > 1:
        pieces = list(_boxed(union_of(pieces, shape)))
    return pieces, ignored


def union_of(pieces: list[Piece], shape: tuple[int, int]) -> ByteMask:
    """The pixels of all instances, HxW of 0 and 1."""
    union = np.zeros(shape, np.uint8)
    for mask, x, y in pieces:
        union[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    return union


def _pieces_of_masks(
    pair: Pair, shape: tuple[int, int], options: WorkerOptions, counts: list[ValueCounts]
) -> tuple[list[Piece], ByteMask | None]:
    grey, ignored = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    pieces: list[Piece] = []
    for path in pair.masks:
        mask = read_mask(path)
        counts.append(count_values(mask))
        values, void = options.reading.apply(mask)
        values = _fitting(values, path, pair.photo, shape, options)
        if void is not None:
            ignored |= _fitting(void, path, pair.photo, shape, options)
        if options.reading.per_value:
            found, numbers = np.unique(values, return_inverse=True)
            pieces += _cut(numbers.reshape(shape) + (found[0] > 0), len(found) - (found[0] == 0))
        else:
            grey = np.maximum(grey, values)
    if not options.reading.per_value and pair.masks:
        cracks = find_cracks(grey, replace(options.cleaning, invert="no"))
        pieces = list(_cut(cracks.labels, cracks.count, cracks.x, cracks.y))
    return pieces, ignored if options.reading.ignored else None


def _fitting(
    values: npt.NDArray[Any], path: str, photo: str, shape: tuple[int, int], options: WorkerOptions
) -> npt.NDArray[Any]:
    """A mask's values, HxW as its photo.

    Raises:
        CrackError: it has another size and must not be resized.
    """
    if values.shape == shape:
        return values
    if options.resize_masks:
        scaled: Any = cv2.resize(values, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return scaled
    raise CrackError(
        f"mask {path} is {values.shape[1]}x{values.shape[0]} px but photo {photo} is "
        f"{shape[1]}x{shape[0]} px (upright by EXIF); --resize-masks scales it"
    )


def _cut(labels: npt.NDArray[Any], count: int, x: int = 0, y: int = 0) -> Iterator[Piece]:
    """Cut the instances 1..count out of a label map whose corner lies at x, y."""
    rows, columns = np.divmod(np.flatnonzero(labels), max(labels.shape[1], 1))
    owners = labels[rows, columns]
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners, np.arange(2, count + 1), sorter=order)
    for members in np.split(order, starts):
        if not members.size:
            continue
        found_rows, found_columns = rows[members], columns[members]
        top, left = int(found_rows.min()), int(found_columns.min())
        shape = int(found_rows.max()) - top + 1, int(found_columns.max()) - left + 1
        mask = np.zeros(shape, np.uint8)
        mask[found_rows - top, found_columns - left] = 1
        yield mask, x + left, y + top


def _boxed(mask: ByteMask) -> Iterator[Piece]:
    """All of a mask, HxW of 0 and 1, as one instance; none where it is empty."""
    return _cut(mask, 1)


def _pieces_of_labels(
    source: LabelledPhoto, shape: tuple[int, int], options: WorkerOptions
) -> tuple[list[Piece], ByteMask | None]:
    if source.size and source.size != shape[::-1]:
        raise CrackError(
            f"the labels of {source.photo} are for {source.size[0]}x{source.size[1]} px but the "
            f"photo is {shape[1]}x{shape[0]} px (upright by EXIF); export them for this photo"
        )
    pieces: list[Piece] = []
    ignored = np.zeros(shape, np.uint8)
    for label in source.labels:
        mask = draw_label(label, shape, options.line_width)
        if label.ignored:
            ignored |= mask
        else:
            pieces += _boxed(mask)
    return pieces, ignored if ignored.any() else None
