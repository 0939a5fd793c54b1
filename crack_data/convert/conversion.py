"""Photos with masks or drawn labels → COCO JSON, in parallel and in a stable order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..errors import CrackError
from ..files import atomic_write
from .checks import FLAGS, NearDuplicate, flag_duplicate_masks, near_duplicates
from .cleaning import PRESETS, CleaningOptions
from .coco import digest, image_root_for, write_coco
from .labels import LabelledSet, read_labels
from .mask_values import MaskReading, choose_reading
from .pairing import Pairing, describe_other_files, pair_files
from .parallel import WorkerPool, choose_workers
from .splits import SplitOptions, assign_splits, group_of, split_path
from .worker import PairRecord, Source, WorkerOptions, process_photo

Progress = Callable[[int, int], None]

_CHOICES = {
    "instances": ("components", "values", "single"),
    "mask_format": ("rle", "polygon"),
    "without_mask": ("leave-out", "crack-free"),
}


@dataclass(frozen=True)
class ConversionOptions:
    """What to convert and how.

    Attributes:
        images: folder of the photos.
        masks: folder of the masks, see `crack_data.convert.pairing.pair_files`; or
        labels: file or folder of drawn labels, see `crack_data.convert.labels.read_labels`.
        output: the JSON; with splits its name is the pattern of theirs.
        cleaning: how masks are cleaned.
        instances: "components" of the cleaned masks, "values" where each value of a mask is an
            instance, or "single" for one instance per photo.
        mask_format: "rle" or "polygon".
        splits: shares, seed and grouping.
        workers: processes; 0 chooses. Scripts that want several need the usual
            ``if __name__ == "__main__":``.
        crack_values, ignore_values: what values of the masks mean; empty: told from the set.
        mask_pattern: what masks are called, e.g. "mask_{stem}".
        without_mask: "leave-out" photos without mask or label, or take them as "crack-free".
        categories: of labels, those that are cracks; empty: the only one, or "crack".
        line_width: of labels that are lines, px.
        resize_masks: scale masks to their photo where sizes differ.
        drop_empty: leave out photos without cracks.
        skip_bad: convert the rest when files are bad, and record what was left out.
        skip_flagged: flags (keys of `checks.FLAGS`) whose pairs are left out.
        strict: photos without mask and masks without photo are errors.
    """

    images: Path
    masks: Path | None
    output: Path
    labels: Path | None = None
    cleaning: CleaningOptions = PRESETS["thin"]
    instances: str = "components"
    mask_format: str = "rle"
    splits: SplitOptions = field(default_factory=lambda: SplitOptions({}))
    workers: int = 1
    crack_values: frozenset[int] = frozenset()
    ignore_values: frozenset[int] = frozenset()
    mask_pattern: str = ""
    without_mask: str = "leave-out"
    categories: tuple[str, ...] = ()
    line_width: float = 3.0
    resize_masks: bool = False
    drop_empty: bool = False
    skip_bad: bool = False
    skip_flagged: tuple[str, ...] = ()
    strict: bool = False

    def __post_init__(self) -> None:
        if (self.masks is None) == (self.labels is None):
            raise CrackError("give either --masks or --labels")
        for kind in self.skip_flagged:
            if kind not in FLAGS:
                raise CrackError(f"--skip-flagged {kind}: there are only {', '.join(FLAGS)}")
        if self.output.suffix != ".json":
            raise CrackError(f"--output {self.output} must end in .json")
        if self.line_width <= 0:
            raise CrackError(f"--line-width {self.line_width:g} must be greater than 0")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise CrackError(f"{name} must be one of {', '.join(choices)}")


@dataclass
class ConversionResult:
    """The whole conversion.

    Attributes:
        records: of all pairs, in order.
        photos_without_mask, masks_without_photo: paths of files without partner.
        unreadable: folders that could not be listed, with the reason.
        notes: one sentence for everything else that a person should know, such as files of other
            kinds, or how mask values were read.
        near_duplicates: look-alikes across splits.
        outputs: split ("" without splits) → its JSON.
    """

    records: list[PairRecord]
    photos_without_mask: list[str]
    masks_without_photo: list[str]
    unreadable: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)
    near_duplicates: list[NearDuplicate] = field(default_factory=list)
    outputs: dict[str, Path] = field(default_factory=dict)

    def bad_files(self) -> list[str]:
        """One sentence for each file or folder that could not be used."""
        folders = [f"folder {path} cannot be read: {why}" for path, why in self.unreadable]
        return folders + [record.error for record in self.records if record.error]

    def used(self, split: str | None = None) -> list[PairRecord]:
        """The records that are in the JSON of a split, or of all."""
        return [
            record
            for record in self.records
            if not (record.error or record.left_out) and split in (None, record.split)
        ]


def convert(options: ConversionOptions, progress: Progress | None = None) -> ConversionResult:
    """Convert a set and write its JSON, or one for each split.

    Args:
        options: what to do.
        progress: called with the number of files done and of all.

    Raises:
        CrackError: nothing to convert, or bad files (all of them named) without ``skip_bad``.
            Nothing is written then.
    """
    found, sources = _find_sources(options)
    lonely = [*found.photos_without_mask, *found.masks_without_photo]
    if options.strict and lonely:
        raise CrackError("\n  ".join([f"{len(lonely)} files have no partner:", *lonely]))
    result = _process(found, sources, options, progress)
    result.notes += _notes(found)
    _check(result, options)
    records = result.records
    flag_duplicate_masks([r.flags for r in records], [r.mask_digest for r in records])
    _leave_out(result.records, options)
    _split(result, options)
    _write(result, options)
    return result


def _find_sources(options: ConversionOptions) -> tuple[Pairing, Sequence[Source]]:
    if options.labels is not None:
        labelled = read_labels(
            options.labels, options.images, options.categories, options.without_mask
        )
        return labelled, labelled.photos
    masks = options.masks or options.images
    found = pair_files(options.images, masks, options.mask_pattern, options.without_mask)
    return found, found.pairs


def _process(
    found: Pairing, sources: Sequence[Source], options: ConversionOptions,
    progress: Progress | None,
) -> ConversionResult:  # fmt: skip
    """Process all photos, taking light for crack; again where the set's values mean another."""
    given = (options.crack_values, options.ignore_values, options.instances == "values")
    with WorkerPool(choose_workers(options.workers, len(sources))) as pool:

        def process(reading: MaskReading) -> list[PairRecord]:
            work = partial(process_photo, options=_worker_options(options, reading))
            records = []
            for record in pool.ordered_map(work, sources):
                records.append(record)
                if progress:
                    progress(len(records), len(sources))
            return records

        records = process(MaskReading())
        reading = choose_reading([c for record in records for c in record.values], *given)
        if reading.dark and options.cleaning.invert != "auto":  # the user knows better
            reading = MaskReading()
        if replace(reading, sentence="") != MaskReading():
            records = process(reading)
    return ConversionResult(
        records=records,
        photos_without_mask=found.photos_without_mask,
        masks_without_photo=found.masks_without_photo,
        unreadable=found.unreadable,
        notes=[reading.sentence] if reading.sentence else [],
    )


def _worker_options(options: ConversionOptions, reading: MaskReading) -> WorkerOptions:
    if options.cleaning.invert != "auto":
        reading = replace(reading, dark=options.cleaning.invert == "yes")
    return WorkerOptions(
        cleaning=replace(options.cleaning, invert="no"),
        reading=reading,
        instances=options.instances,
        mask_format=options.mask_format,
        resize_masks=options.resize_masks,
        hash_photos=len(options.splits.shares) > 1,
        line_width=options.line_width,
    )


def _notes(found: Pairing) -> list[str]:
    notes = describe_other_files(found.other_files)
    several = sum(len(pair.masks) > 1 for pair in found.pairs)
    if several:
        notes.append(f"{several} photos have several masks, which were united")
    if isinstance(found, LabelledSet) and found.other_labels:
        listed = ", ".join(f"{name} ({n})" for name, n in sorted(found.other_labels.items()))
        notes.append(f"labels of other categories, left out: {listed}")
    return notes


def _check(result: ConversionResult, options: ConversionOptions) -> None:
    bad = result.bad_files()
    if bad and not options.skip_bad:
        raise CrackError(
            f"{len(bad)} files or folders cannot be used (--skip-bad leaves them out):\n  "
            + "\n  ".join(bad)
        )
    if all(record.error for record in result.records):
        folders = f"{options.images}, {options.masks or options.labels}"
        raise CrackError(f"no usable pair of photo and mask in {folders}")
    if not any(record.instances for record in result.records):
        result.notes.append("no photo of the set has a crack: look at the masks' values")


def _leave_out(records: list[PairRecord], options: ConversionOptions) -> None:
    for record in records:
        kinds = [kind for kind in options.skip_flagged if kind in record.flags]
        if kinds:
            record.left_out = f"flagged {' and '.join(kinds)}"
        elif options.drop_empty and not record.instances and not record.error:
            record.left_out = "no crack"


def _split(result: ConversionResult, options: ConversionOptions) -> None:
    """Choose the splits by the photos that are used, and find look-alikes across them."""

    def group(record: PairRecord) -> str:
        return group_of(record.file_name, options.splits.group_by)

    used = result.used()
    splits = assign_splits([group(record) for record in used], options.splits)
    for record in result.records:
        record.split = splits.get(group(record), "")
    if len(options.splits.shares) > 1:
        result.near_duplicates = near_duplicates(
            [record.photo for record in used],
            [record.split for record in used],
            [record.photo_hash for record in used],
        )


def _write(result: ConversionResult, options: ConversionOptions) -> None:
    """Write the JSONs of all splits; they take their names together, when all are complete."""
    names = [*options.splits.shares] or [""]
    lines = (f"{each.split} {each.file_name} {each.mask_digest}" for each in result.used())
    conversion = {"id": digest(lines), "splits": names}
    with ExitStack() as stack:
        for split in names:
            path = split_path(options.output, split, options.splits)
            stream = stack.enter_context(atomic_write(path))
            photos = ((r.file_name, r.width, r.height, r.annotations) for r in result.used(split))
            info = {
                "description": "Cracks, one instance per annotation",
                "image_root": image_root_for(path, options.images),
                "conversion": conversion,
                "link_gap": _link_gap(options),
                "left_out": _left_out(result, split),
            }
            write_coco(stream, photos, info)
            result.outputs[split] = path


def _link_gap(options: ConversionOptions) -> float:
    """The gap across which pieces were linked, px; instances that are given are not linked."""
    linked = options.labels is None and options.instances == "components"
    return options.cleaning.link_gap if linked else 0


def _left_out(result: ConversionResult, split: str) -> dict[str, str]:
    left_out = {path: f"cannot be read: {why}" for path, why in result.unreadable}
    for record in result.records:
        if record.split in (split, "") and (record.error or record.left_out):
            left_out[record.file_name] = record.error or record.left_out
    return left_out
