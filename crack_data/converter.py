"""Photos and combined masks → COCO JSON: in parallel, in a stable order, written atomically."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .coco import AnnotationSpool, CocoWriter, image_root_for
from .errors import CrackError
from .masks import PRESETS, CleaningOptions
from .pair_worker import PairOptions, PairResult, process_pair
from .pairing import Pair, Pairing, find_pairs
from .parallel import choose_workers, ordered_map
from .splits import SplitOptions, split_of, split_path

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ConversionOptions:
    """What to convert and how.

    Attributes:
        images, masks: the folders; see `crack_data.pairing.find_pairs` for layouts.
        output: the JSON; with splits its name is the pattern of theirs.
        cleaning: how masks are cleaned.
        instances: "components", or "single" for one instance per photo.
        mask_format: "rle" or "polygon".
        splits: shares, seed and grouping.
        workers: processes; 0 chooses.
        resize_masks: scale masks to their photo where sizes differ.
        drop_empty: leave out photos without cracks.
        skip_bad: convert the rest when files are bad, and record what was left out.
        skip_flagged: suspicions whose pairs are left out.
        strict: photos without mask and masks without photo are errors.
    """

    images: Path
    masks: Path
    output: Path
    cleaning: CleaningOptions = PRESETS["thin"]
    instances: str = "components"
    mask_format: str = "rle"
    splits: SplitOptions = field(default_factory=lambda: SplitOptions({}))
    workers: int = 0
    resize_masks: bool = False
    drop_empty: bool = False
    skip_bad: bool = False
    skip_flagged: tuple[str, ...] = ()
    strict: bool = False


@dataclass
class PairRecord:
    """What became of one pair.

    Attributes:
        photo, mask: paths of the files.
        width, height: of the upright photo, px; 0 where it could not be read.
        instances: annotations in the JSON.
        crack_area: px; coverage: percent of the photo; mean_width: px.
        flags: suspicion → its value.
        split: name of the split, "" without splits.
        error: why the pair is unusable, "" if it is fine.
        left_out: why the pair is not in the JSON although it is fine, "" if it is in.
    """

    photo: str
    mask: str
    width: int
    height: int
    instances: int
    crack_area: int
    coverage: float
    mean_width: float
    flags: dict[str, float]
    split: str
    error: str
    left_out: str = ""


@dataclass
class ConversionResult:
    """Records of all pairs in order, files without partner, and the JSONs written by split."""

    records: list[PairRecord]
    photos_without_mask: list[str]
    masks_without_photo: list[str]
    unreadable: list[tuple[str, str]]
    outputs: dict[str, Path] = field(default_factory=dict)


def convert(options: ConversionOptions, progress: Progress | None = None) -> ConversionResult:
    """Convert a set and write its JSON, or one for each split.

    Args:
        options: what to do.
        progress: called with the number of pairs done and of all pairs.

    Raises:
        CrackError: nothing to convert, or bad files (all of them named) without ``skip_bad``.
            Nothing is written then.
    """
    pairing = find_pairs(options.images, options.masks)
    if options.strict:
        _require_partners(pairing)
    spool = AnnotationSpool()
    try:
        records = []
        for pair, found in _process(pairing.pairs, options):
            records.append(_record(pair, found, options))
            spool.add(found.annotations)
            if progress:
                progress(len(records), len(pairing.pairs))
        result = ConversionResult(
            records=records,
            photos_without_mask=[os.fspath(path) for path in pairing.photos_without_mask],
            masks_without_photo=[os.fspath(path) for path in pairing.masks_without_photo],
            unreadable=[(os.fspath(path), why) for path, why in pairing.unreadable],
        )
        _check(result, options)
        _write(result, pairing.pairs, spool, options)
        return result
    finally:
        spool.close()


def _process(pairs: list[Pair], options: ConversionOptions) -> Iterator[tuple[Pair, PairResult]]:
    pair_options = PairOptions(
        options.cleaning, options.instances, options.mask_format, options.resize_masks
    )
    workers = choose_workers(options.workers, len(pairs))
    function = partial(process_pair, options=pair_options)
    found = ordered_map(function, pairs, workers, preload="crack_data.pair_worker")
    return zip(pairs, found, strict=True)


def _record(pair: Pair, found: PairResult, options: ConversionOptions) -> PairRecord:
    pixels = found.width * found.height
    return PairRecord(
        photo=os.fspath(pair.photo),
        mask=os.fspath(pair.mask),
        width=found.width,
        height=found.height,
        instances=len(found.annotations),
        crack_area=found.crack_area,
        coverage=100 * found.crack_area / pixels if pixels else 0.0,
        mean_width=found.mean_width,
        flags=found.flags,
        split=split_of(pair.stem, options.splits),
        error=found.error,
    )


def _require_partners(pairing: Pairing) -> None:
    lonely = [*pairing.photos_without_mask, *pairing.masks_without_photo]
    if lonely:
        names = "\n  ".join(map(str, lonely))
        raise CrackError(f"{len(lonely)} files have no partner:\n  {names}")


def _check(result: ConversionResult, options: ConversionOptions) -> None:
    bad = [f"folder {path} cannot be read: {why}" for path, why in result.unreadable]
    bad += [record.error for record in result.records if record.error]
    if bad and not options.skip_bad:
        raise CrackError(
            f"{len(bad)} files cannot be used (--skip-bad leaves them out):\n  " + "\n  ".join(bad)
        )
    if all(record.error for record in result.records):
        raise CrackError(f"no usable pair of photo and mask in {options.images}, {options.masks}")


def _write(
    result: ConversionResult, pairs: list[Pair], spool: AnnotationSpool, options: ConversionOptions
) -> None:
    for split in options.splits.shares or [""]:
        path = split_path(options.output, split, options.splits)
        writer = CocoWriter()
        for index, (pair, record) in enumerate(zip(pairs, result.records, strict=True)):
            if record.split != split or record.error or record.left_out:
                continue
            if options.drop_empty and not record.instances:
                record.left_out = "empty"
                continue
            writer.add(pair.file_name, record.width, record.height, spool.get(index))
        writer.save(path, _info(path, result, options))
        result.outputs[split] = path


def _info(path: Path, result: ConversionResult, options: ConversionOptions) -> dict[str, object]:
    bad = [path for path, _ in result.unreadable]
    bad += [record.photo for record in result.records if record.error]
    return {
        "description": "Cracks, one instance per annotation",
        "image_root": image_root_for(path, options.images),
        "left_out": bad,
    }
