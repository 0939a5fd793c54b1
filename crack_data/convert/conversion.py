"""Photos with masks or drawn labels → COCO JSON, in parallel and in a stable order."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from ..errors import CrackError
from ..storage import atomic_write, count_kinds
from .checks import NearDuplicate, flag_duplicate_masks, mask_digest, near_duplicates
from .cleaning import CleaningOptions
from .coco import digest, write_coco
from .labels import read_labels
from .mask_values import MaskReading, choose_reading
from .pairing import Pairing, PairRecord, pair_files
from .splits import assign_splits, group_of
from .worker import ConversionOptions, process_photo


@dataclass
class ConversionResult(Pairing):
    """The whole conversion."""

    notes: list[str] = field(default_factory=list)  # sentences that a person should read
    near_duplicates: list[NearDuplicate] = field(default_factory=list)  # across splits
    outputs: dict[str, Path] = field(default_factory=dict)  # split ("" without splits) → JSON

    def bad_files(self) -> list[str]:
        """One sentence for each file or folder that could not be used."""
        folders = [f"{path} {why}" for path, why in self.unreadable]
        return folders + [record.error for record in self.records if record.error]

    def used(self, split: str | None = None) -> list[PairRecord]:
        """The records that are in the JSON of a split, or of all."""
        used = [record for record in self.records if not (record.error or record.left_out)]
        return [record for record in used if split in (None, record.split)]


def convert(options: ConversionOptions) -> ConversionResult:
    """Convert a set and write its JSON, or one for each split; nothing at a `CrackError`."""
    images, without_mask = options.images, options.without_mask
    if options.labels:
        found = read_labels(options.labels, images, options.categories, without_mask)
    else:
        found = pair_files(images, options.masks or images, options.mask_pattern, without_mask)
    lonely = [*found.photos_without_mask, *found.masks_without_photo]
    if options.strict and lonely:
        raise CrackError("\n  ".join([f"{len(lonely)} files have no partner:", *lonely]))
    result = ConversionResult(**vars(found))
    reading = _process(result, options)
    _check(result, options)
    flag_duplicate_masks(result.records)
    for record in result.records:
        kinds = [kind for kind in options.skip_flagged if kind in record.flags]
        if kinds:
            record.left_out = f"flagged {' and '.join(kinds)}"
        elif options.drop_empty and not record.instances and not record.error:
            record.left_out = "no crack"
    used = result.used()
    if not used:
        raise CrackError("no photo is left: --drop-empty or --skip-flagged leave all of them out")
    groups = [group_of(record.file_name, options.group_by) for record in used]
    splits = assign_splits(groups, options.shares, options.seed)
    for record in result.records:  # what is left out too: the JSON of its split says so
        record.split = splits.get(group_of(record.file_name, options.group_by), "")
    result.near_duplicates = list(near_duplicates(used))
    _write(result, options, reading)
    return result


def _process(result: ConversionResult, options: ConversionOptions) -> MaskReading:
    """Process all photos, light as crack; again where the set is read otherwise, as returned."""
    sources = result.records

    def process(reading: MaskReading) -> list[PairRecord]:
        work = partial(process_photo, options=options, reading=reading)
        records = ordered_map(work, sources, options.workers)
        return list(tqdm(records, total=len(sources), unit=" files", leave=False, disable=None))

    plain = MaskReading(dark=options.invert == "yes")
    result.records = process(plain)
    counts = [count for record in result.records for count in record.values]
    given = options.crack_values, options.ignore_values, options.instances == "values"
    reading = choose_reading(counts, *given, options.invert)
    if replace(reading, sentence="") != plain:
        result.records = process(reading)
    if reading.sentence:
        result.notes.append(reading.sentence)
    useless = [x for x, y in vars(options.cleaning).items() if y != getattr(CleaningOptions, x)]
    useless += [] if options.invert == "auto" else ["invert"]
    if reading.per_value and useless:
        result.notes.append(f"without effect on masks that number instances: {', '.join(useless)}")
    return reading


def _check(result: ConversionResult, options: ConversionOptions) -> None:
    """Note what a person should read; a `CrackError` where files or all photos are unusable."""
    kinds = count_kinds(result.other_files)
    several = sum(len(record.masks) > 1 for record in result.records)
    repeated = sum(record.repeated for record in result.records)
    no_pixel = sum(record.empty for record in result.records)
    labels = ", ".join(f"{name} ({n})" for name, n in sorted(result.other_labels.items()))
    empty = not any(record.instances for record in result.records)
    notes = {
        f"not read, of other kinds than photos and masks: {kinds}": kinds,
        f"{several} photos have several masks, which were united": several,
        f"labels that stand twice, counted once: {repeated}": repeated,
        f"labels that cover no pixel of their photo, left out: {no_pixel}": no_pixel,
        f"labels of other categories, left out: {labels}": labels,
        "no photo of the set has a crack: look at its masks or labels": empty,
    }
    result.notes += [note for note, holds in notes.items() if holds]
    bad = result.bad_files()
    remedy = "" if options.skip_bad else "--skip-bad leaves them out"
    # What they hold may be the masks or labels of photos that would pass for crack-free.
    if result.unreadable and options.without_mask == "crack-free":
        remedy = "--photos-without-mask crack-free needs them"
    if bad and remedy:
        head = f"{len(bad)} files or folders cannot be used ({remedy}):"
        raise CrackError("\n  ".join([head, *bad]))
    if all(record.error for record in result.records):
        folders = f"{options.images}, {options.masks or options.labels}"
        raise CrackError(f"no usable pair of photo and mask in {folders}")


def _write(result: ConversionResult, options: ConversionOptions, reading: MaskReading) -> None:
    """Write the JSONs of all splits; they take their names together, when all are complete."""
    result.outputs = options.outputs()
    lines = (f"{each.split} {each.file_name} {mask_digest(each)}" for each in result.used())
    conversion = {"id": digest(lines), "splits": [*result.outputs]}
    given = options.labels is not None or reading.per_value
    linked = options.instances == "components" and not given
    root, folder = options.images.resolve(), options.output.parent.resolve()
    if root.is_relative_to(folder):  # so that both can move together
        root = root.relative_to(folder)
    with ExitStack() as stack:
        for split, path in result.outputs.items():
            left_out = dict(result.unreadable)
            for record in result.records:
                if record.split in (split, "") and (record.error or record.left_out):
                    left_out[record.file_name] = record.error or record.left_out
            info = {
                "description": "Cracks, one instance per annotation",
                "image_root": str(root),
                "conversion": conversion,
                "link_gap": options.cleaning.link_gap if linked else 0,
                "left_out": left_out,
            }
            write_coco(stack.enter_context(atomic_write(path)), result.used(split), info)


def usable_cores() -> int:
    """Processor cores that this process may use."""
    bound = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1


def ordered_map(function: Callable[[Any], Any], items: list[Any], workers: int) -> Iterator[Any]:
    """Yield ``function(item)`` for every item, in order, from processes; 0: as many as pay off."""
    if workers < 1:
        # Fewer than 48 are done sooner than a worker is started.
        workers = max(1, min(usable_cores(), len(items) // 48))
    if workers == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        with _deaf_to_ctrl_c():
            results = pool.map(function, items, chunksize=16)
        yield from results
    except BrokenProcessPool as error:
        raise CrackError(
            "a worker process ended early: for want of memory (use fewer workers), or because "
            'the calling script lacks `if __name__ == "__main__":`'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start workers with Ctrl-C blocked; this process, which ends them, takes notice afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may choose
        return
    resource_tracker.ensure_running()  # first: its start unblocks the signal
    caught: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes themselves fill the cores
    parent = multiprocessing.parent_process()
    assert parent

    def follow() -> None:
        """End with the parent, also when that is killed and cannot say so."""
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
