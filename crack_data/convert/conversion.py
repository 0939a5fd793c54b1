"""Photos and combined masks → COCO JSON: in parallel, in a stable order, written atomically."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import CrackError
from ..files import atomic_write
from .coco import AnnotationSpool, CocoWriter, image_root_for
from .duplicates import NearDuplicate, near_duplicates
from .options import PRESETS, CleaningOptions
from .pair_worker import PairOptions, PairResult, process_pair
from .pairing import Pair, Pairing, find_pairs
from .parallel import choose_workers, ordered_map
from .records import ConversionResult, PairRecord
from .splits import SplitOptions, split_of, split_path
from .suspicion import FLAGS

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ConversionOptions:
    """What to convert and how.

    Attributes:
        images, masks: the folders; see `crack_data.convert.pairing.find_pairs` for layouts.
        output: the JSON; with splits its name is the pattern of theirs.
        cleaning: how masks are cleaned.
        instances: "components", or "single" for one instance per photo.
        mask_format: "rle" or "polygon".
        splits: shares, seed and grouping.
        workers: processes; 0 chooses. Scripts that want several need the usual
            ``if __name__ == "__main__":``.
        resize_masks: scale masks to their photo where sizes differ.
        drop_empty: leave out photos without cracks.
        skip_bad: convert the rest when files are bad, and record what was left out.
        skip_flagged: suspicions (keys of `suspicion.FLAGS`) whose pairs are left out.
        strict: photos without mask and masks without photo are errors.
    """

    images: Path
    masks: Path
    output: Path
    cleaning: CleaningOptions = PRESETS["thin"]
    instances: str = "components"
    mask_format: str = "rle"
    splits: SplitOptions = field(default_factory=lambda: SplitOptions({}))
    workers: int = 1
    resize_masks: bool = False
    drop_empty: bool = False
    skip_bad: bool = False
    skip_flagged: tuple[str, ...] = ()
    strict: bool = False

    def __post_init__(self) -> None:
        for kind in self.skip_flagged:
            if kind not in FLAGS:
                raise CrackError(f"--skip-flagged {kind}: there are only {', '.join(FLAGS)}")
        if self.output.suffix != ".json":
            raise CrackError(f"--output {self.output} must end in .json")
        if self.instances not in ("components", "single"):
            raise CrackError(f"instances must be components or single, not {self.instances}")
        if self.mask_format not in ("rle", "polygon"):
            raise CrackError(f"mask_format must be rle or polygon, not {self.mask_format}")


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
    with closing(AnnotationSpool()) as spool:
        result, found = _read_all(pairing, options, spool, progress)
        _check(result, options)
        _compare(result.records, found)
        _leave_out(result.records, options)
        if options.splits.shares:
            result.near_duplicates = _duplicates(result.records, found)
        _write(result, pairing.pairs, spool, options)
        return result


@dataclass
class _Fingerprints:
    """What is kept of every pair until all are known: digests of masks, hashes of photos."""

    digests: list[bytes] = field(default_factory=list)
    photos: list[int] = field(default_factory=list)


def _read_all(
    pairing: Pairing, options: ConversionOptions, spool: AnnotationSpool, progress: Progress | None
) -> tuple[ConversionResult, _Fingerprints]:
    records, prints = [], _Fingerprints()
    for pair, found in zip(pairing.pairs, _process(pairing.pairs, options), strict=True):
        records.append(_record(pair, found, options))
        spool.add(found.annotations)
        prints.digests.append(found.digest)
        prints.photos.append(found.photo_hash)
        if progress:
            progress(len(records), len(pairing.pairs))
    result = ConversionResult(
        records=records,
        photos_without_mask=pairing.photos_without_mask,
        masks_without_photo=pairing.masks_without_photo,
        unreadable=pairing.unreadable,
    )
    return result, prints


def _process(pairs: list[Pair], options: ConversionOptions) -> Iterator[PairResult]:
    pair_options = PairOptions(
        cleaning=options.cleaning,
        instances=options.instances,
        mask_format=options.mask_format,
        resize_masks=options.resize_masks,
        hash_photos=len(options.splits.shares) > 1,
    )
    workers = choose_workers(options.workers, len(pairs))
    function = partial(process_pair, options=pair_options)
    return ordered_map(function, pairs, workers, preload="crack_data.convert.pair_worker")


def _record(pair: Pair, found: PairResult, options: ConversionOptions) -> PairRecord:
    pixels = found.width * found.height
    return PairRecord(
        photo=pair.photo,
        mask=pair.mask,
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
        names = "\n  ".join(lonely)
        raise CrackError(f"{len(lonely)} files have no partner:\n  {names}")


def _check(result: ConversionResult, options: ConversionOptions) -> None:
    bad = result.bad_files()
    if bad and not options.skip_bad:
        raise CrackError(
            f"{len(bad)} files or folders cannot be used (--skip-bad leaves them out):\n  "
            + "\n  ".join(bad)
        )
    if all(record.error for record in result.records):
        raise CrackError(f"no usable pair of photo and mask in {options.images}, {options.masks}")


def _compare(records: list[PairRecord], found: _Fingerprints) -> None:
    """Flag the masks that several photos share."""
    times = Counter(found.digests)
    for record, digest in zip(records, found.digests, strict=True):
        if digest and times[digest] > 1:
            record.flags["alike"] = float(times[digest])


def _leave_out(records: list[PairRecord], options: ConversionOptions) -> None:
    for record in records:
        kinds = [kind for kind in options.skip_flagged if kind in record.flags]
        if kinds:
            record.left_out = f"flagged {' and '.join(kinds)}"
        elif options.drop_empty and not record.instances and not record.error:
            record.left_out = "no crack"


def _duplicates(records: list[PairRecord], found: _Fingerprints) -> list[NearDuplicate]:
    used = [i for i, record in enumerate(records) if not (record.error or record.left_out)]
    return near_duplicates(
        [records[i].photo for i in used],
        [records[i].split for i in used],
        [found.photos[i] for i in used],
    )


def _write(
    result: ConversionResult, pairs: list[Pair], spool: AnnotationSpool, options: ConversionOptions
) -> None:
    """Write the JSONs of all splits; they take their names together, when all are complete."""
    with ExitStack() as stack:
        names = options.splits.shares or [""]
        writers = {split: stack.enter_context(closing(CocoWriter())) for split in names}
        folders = {path: f"cannot be read: {why}" for path, why in result.unreadable}
        left_out = {split: dict(folders) for split in names}
        for index, (pair, record) in enumerate(zip(pairs, result.records, strict=True)):
            if record.error or record.left_out:
                left_out[record.split][pair.file_name] = record.error or record.left_out
            else:
                photo = (pair.file_name, record.width, record.height)
                writers[record.split].add(*photo, spool.get(index))
        for split, writer in writers.items():
            path = split_path(options.output, split, options.splits)
            stream = stack.enter_context(atomic_write(path))
            writer.write_to(stream, _info(path, options, left_out[split]))
            result.outputs[split] = path


def _info(path: Path, options: ConversionOptions, left_out: dict[str, str]) -> dict[str, object]:
    return {
        "description": "Cracks, one instance per annotation",
        "image_root": image_root_for(path, options.images),
        "left_out": left_out,
    }
