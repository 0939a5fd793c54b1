"""One photo with its masks or drawn labels → its annotations and what the report says about it."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from ..annotations import Label
from ..errors import CrackError
from ..photos import probe_photo
from ..segmentation import NO_SEGMENTATION, decode_mask, draw_line
from .checks import FLAGS, check_pair, mean_width, perceptual_hash
from .cleaning import PRESETS, ByteMask, CleaningOptions, find_cracks
from .coco import Piece, annotation, cut_instances
from .mask_files import count_values, read_mask
from .mask_values import MaskReading
from .pairing import PairRecord, stem_of
from .splits import group_of, split_path

CHOICES = {  # what options that are words may be
    "invert": ("auto", "yes", "no"),
    "instances": ("components", "values", "single"),
    "mask_format": ("rle", "polygon"),
    "without_mask": ("leave-out", "crack-free"),
    "skip_flagged": tuple(FLAGS),
}


@dataclass(frozen=True)
class ConversionOptions:
    """What to convert and how."""

    images: Path  # folder of the photos
    masks: Path | None  # folder of the masks, see `pairing.pair_files`; or
    output: Path  # the JSON; with splits its name is the pattern of theirs
    labels: Path | None = None  # file or folder of drawn labels, see `labels.read_labels`
    cleaning: CleaningOptions = PRESETS["thin"]
    invert: str = "auto"  # "yes": cracks are dark, "no": light, "auto": told from the set
    instances: str = "components"  # or "values": each value of a mask is one; or "single"
    mask_format: str = "rle"  # or "polygon"
    shares: dict[str, float] = field(default_factory=dict)  # of splits, {"train": 0.8, "val": 0.2}
    seed: int = 0
    group_by: str = ""
    workers: int = 1  # processes, 0 chooses; scripts need `if __name__ == "__main__":` for several
    crack_values: frozenset[int] = frozenset()  # what values of the masks mean; empty: told from
    ignore_values: frozenset[int] = frozenset()  # the set
    mask_pattern: str = ""  # what masks are called, e.g. "mask_{stem}"
    without_mask: str = "leave-out"  # or "crack-free": photos without mask or label
    categories: tuple[str, ...] = ()  # of labels that are cracks; empty: the only one, or "crack"
    line_width: float = 3.0  # of labels that are lines, px
    resize_masks: bool = False  # scale masks to their photo where sizes differ
    drop_empty: bool = False  # leave out photos without cracks
    skip_bad: bool = False  # convert the rest when files are bad, and record what was left out
    skip_flagged: tuple[str, ...] = ()  # keys of `checks.FLAGS` whose pairs are left out
    strict: bool = False  # photos without mask and masks without photo are errors

    def __post_init__(self) -> None:
        group_of("photo", self.group_by)  # refuses a broken pattern before the work
        if (self.masks is None) == (self.labels is None):
            raise CrackError("give either --masks or --labels")
        if self.output.suffix != ".json":
            raise CrackError(f"--output {self.output} must end in .json")
        for path in map(Path.resolve, self.outputs().values()):
            if self.labels and self.labels.resolve() in (path, *path.parents):
                raise CrackError(
                    f"--output {path} would overwrite the labels of --labels {self.labels}, or "
                    "be read as such next time; name a place outside"
                )
        if self.workers < 0:
            raise CrackError(f"--workers {self.workers} must be 0 or more")
        if not 0 < self.line_width < math.inf:
            raise CrackError(f"--line-width {self.line_width:g} must be greater than 0")
        masks_only = ("crack_values", "ignore_values", "mask_pattern", "resize_masks", "invert",
                      "cleaning")  # fmt: skip
        useless = [(name, "--labels") for name in masks_only if self.labels]
        useless += [(name, "--masks") for name in ("categories", "line_width") if self.masks]
        if self.instances == "values":
            useless += [("cleaning", "--instances values"), ("invert", "--instances values")]
        if self.crack_values:
            useless.append(("invert", "--crack-value"))
        if not self.shares:
            useless += [("group_by", "no --split"), ("seed", "no --split")]
        for name, given in useless:
            if getattr(self, name) != getattr(ConversionOptions, name):
                flags = " (--preset, --threshold, --min-area, …)" if name == "cleaning" else ""
                raise CrackError(f"{name}{flags} means nothing with {given}; leave it out")
        if self.labels and self.instances == "values":
            raise CrackError("--instances values means nothing with --labels; leave it out")
        both = self.crack_values & self.ignore_values
        if both:
            raise CrackError(f"mask value {min(both)} is given as crack and as ignored; choose one")
        for name, choices in CHOICES.items():
            given = getattr(self, name)
            for word in [given] if isinstance(given, str) else given:
                if word not in choices:
                    raise CrackError(f"{name} {word}: there are only {', '.join(choices)}")

    def outputs(self) -> dict[str, Path]:
        """The JSON of each split; of "" where there are no splits."""
        names = [*self.shares] or [""]
        return {name: split_path(self.output, name, self.shares) for name in names}


def process_photo(pair: PairRecord, options: ConversionOptions, reading: MaskReading) -> PairRecord:
    """Read, check, clean and encode one photo with its labels; errors are recorded, not raised."""
    record = replace(pair, values=[])
    try:
        width, height, grey = probe_photo(pair.photo)
        pieces, ignored = _find_pieces(record, (height, width), options, reading)
    except CrackError as error:
        return replace(record, labels=[], error=str(error))
    crack = np.zeros((height, width), np.uint8)
    for mask, x, y in pieces:
        crack[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    if options.instances == "single":
        pieces = list(cut_instances(crack))
    cracks = [annotation(*piece, crack.shape, options.mask_format) for piece in pieces]
    record.annotations = list(dict.fromkeys(cracks))
    record.instances = len(record.annotations)
    record.repeated = len(cracks) - record.instances
    record.annotations += [
        annotation(*x, crack.shape, "rle", crowd=True) for x in cut_instances(ignored)
    ]
    record.labels = []  # they are drawn
    record.width, record.height = width, height
    record.crack_area = cv2.countNonZero(crack)
    record.coverage = 100 * record.crack_area / crack.size
    record.mean_width = mean_width(crack)
    record.flags = check_pair(stem_of(pair.photo), grey, crack)
    record.photo_hash = perceptual_hash(grey) if len(options.shares) > 1 else 0
    return record


def _find_pieces(
    record: PairRecord, shape: tuple[int, int], options: ConversionOptions, reading: MaskReading
) -> tuple[list[Piece], ByteMask]:
    """The instances of a photo, and its ignored pixels, HxW; values of masks go to the record."""
    grey, ignored = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    pieces: list[Piece] = []
    for path in record.masks:
        mask = read_mask(path)
        record.values.append(count_values(mask))
        values, void = reading.apply(mask)
        if values.shape != shape:
            (height, width), size, nearest = values.shape, shape[::-1], cv2.INTER_NEAREST_EXACT
            # A scaled mask's sides are the photo's but for 1 px of the smaller one, by rounding.
            is_scaled = abs(height * shape[1] - width * shape[0]) <= max(*values.shape, *shape)
            if not (is_scaled and options.resize_masks):
                has, wanted = (f"{width}x{height} px" for height, width in (values.shape, shape))
                remedy = "--resize-masks scales it" if is_scaled else "it must show the whole photo"
                raise CrackError(
                    f"mask {path} is {has} but photo {record.photo} is {wanted} (upright by EXIF); "
                    f"{remedy}"
                )
            if not reading.per_value and height >= 1.5 * shape[0]:  # hairlines would be lost
                block = np.ones((-(-height // shape[0]), -(-width // shape[1])), np.uint8)
                values, void = (cv2.dilate(x, block) for x in (values, void))
            values, void = (cv2.resize(x, size, interpolation=nearest) for x in (values, void))
        ignored |= void
        if reading.per_value:
            found, numbers = np.unique(values, return_inverse=True)
            pieces += cut_instances(numbers.reshape(shape) + (found[0] > 0))
        else:
            grey = np.maximum(grey, values)
    if record.masks and not reading.per_value:
        cleaning = options.cleaning
        if reading.top and cleaning.threshold == "auto":  # by what the mask alone holds
            cleaning = replace(cleaning, threshold=127)
        elif reading.level is not None and not isinstance(cleaning.threshold, int):
            cleaning = replace(cleaning, threshold=reading.level)
        pieces = list(cut_instances(find_cracks(grey, cleaning)))
    for label in record.labels:
        drawn = draw_label(label, shape, options.line_width)
        record.empty += not drawn.any()
        if label.ignored:
            ignored |= drawn
        else:
            pieces += cut_instances(drawn)
    return pieces, ignored


def draw_label(label: Label, shape: tuple[int, int], line_width: float) -> ByteMask:
    """Draw a label as a mask of 0 and 1, of the photo's ``shape`` (H, W), lines so many px wide."""
    if label.file_fault:
        raise CrackError(label.file_fault)
    height, width = shape
    if label.size and label.size != (width, height):
        raise CrackError(
            f"{label.where} is for {label.size[0]}x{label.size[1]} px but its photo is "
            f"{width}x{height} px (upright by EXIF); export it for this photo"
        )
    mask = np.zeros(shape, np.uint8)
    areas = label.areas
    try:
        if label.fault or not (areas or label.lines or label.patches):
            raise ValueError(label.fault or NO_SEGMENTATION)
        if label.shares:
            scaled = [np.reshape(ring, (-1, 2)) * (width, height) for ring in areas]
            # To whole pixels again; what lies in the corner's would be taken for shares.
            seen = [ring for ring in scaled if not (ring.min() >= 0 and ring.max() <= 1)]
            areas = [ring.round(2).ravel().tolist() for ring in seen]
        for line in label.lines:
            draw_line(mask, np.array(line), line_width)
        mask |= decode_mask(areas, height, width, label.contours)
        for pixels, x, y in label.patches:
            part = mask[y : y + pixels.shape[0], x : x + pixels.shape[1]]
            if min(x, y) < 0 or part.shape != pixels.shape:
                raise ValueError(f"has a mask that reaches beyond its photo, {width}x{height} px")
            part |= pixels
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise CrackError(f"{label.where} {error}; correct or delete it") from error
    return mask
