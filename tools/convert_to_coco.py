#!/usr/bin/env python
"""Convert photos and combined crack masks to COCO JSON.

Layouts: a folder of photos and one of masks, whose names match (a suffix such as _mask, _label,
_lab or _gt may follow; CrackForest's .mat files count as masks); one folder with both, the masks
with a suffix; or, given the same folder twice, {train,test}_{img,lab}, {train,val,test}/
{images,masks}, image and groundTruth, images and masks.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.convert.conversion import ConversionOptions, convert
from crack_data.convert.options import PRESETS, CleaningOptions, preset
from crack_data.convert.records import ConversionResult, PairRecord
from crack_data.convert.splits import SplitOptions, parse_shares
from crack_data.convert.suspicion import FLAGS
from crack_data.errors import CrackError, run_tool
from crack_data.progress import show_progress

# Of suspicious pairs of one kind: 20000 photos with one and the same mask are 20000 of them.
MOST_LISTED = 20


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--masks", required=True, type=Path, metavar="DIR")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.json")
    _add_cleaning(parser.add_argument_group("cleaning", "changes to the preset, lengths in px"))
    _add_json(parser.add_argument_group("instances and splits"))
    _add_checks(parser.add_argument_group("checks"))
    return parser.parse_args()


def _add_cleaning(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", default="thin", choices=sorted(PRESETS))
    group.add_argument("--threshold", type=_level, metavar="auto|otsu|0-254")
    group.add_argument("--invert", choices=("auto", "yes", "no"), help="yes: cracks are dark")
    group.add_argument("--opening", type=int, metavar="N", help="kernel side, 0: none")
    group.add_argument("--closing", type=int, metavar="N", help="kernel side, 0: none")
    group.add_argument("--min-area", type=int, metavar="N", help="drop smaller components")
    group.add_argument("--fill-holes", type=int, metavar="N", help="fill holes up to this area")
    group.add_argument("--bridge-gap", type=int, metavar="N", help="close gaps up to this width")
    group.add_argument("--connectivity", type=int, choices=(4, 8))


def _level(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _add_json(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--instances", default="components", choices=("components", "single"))
    group.add_argument("--mask-format", default="rle", choices=("rle", "polygon"))
    group.add_argument("--drop-empty", action="store_true", help="leave out photos without crack")
    group.add_argument("--split", default="", metavar="train=0.8,val=0.1,test=0.1")
    group.add_argument("--seed", default=0, type=int, help="of the split")
    group.add_argument(
        "--group-by",
        default="",
        metavar="REGEX",
        help="photos whose names agree in it stay together",
    )
    group.add_argument("--workers", default=0, type=int, metavar="N", help="processes; 0 chooses")


def _add_checks(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--strict", action="store_true", help="files without partner are errors")
    group.add_argument("--resize-masks", action="store_true", help="allow masks of another size")
    group.add_argument("--skip-bad", action="store_true", help="leave out files that are unusable")
    group.add_argument(
        "--skip-flagged", action="append", default=[], metavar="KIND", choices=tuple(FLAGS),
        help=f"leave out suspicious pairs: {', '.join(FLAGS)}; may be repeated",
    )  # fmt: skip
    group.add_argument("--report", type=Path, metavar="DIR", help="write an HTML page to look at")


def main() -> int:
    """Convert and say what came of it."""
    args = parse_args()
    names = {field.name for field in fields(CleaningOptions)}
    changes = {k: v for k, v in vars(args).items() if k in names and v is not None}
    options = ConversionOptions(
        images=args.images,
        masks=args.masks,
        output=args.output,
        cleaning=preset(args.preset, **changes),
        instances=args.instances,
        mask_format=args.mask_format,
        splits=SplitOptions(parse_shares(args.split), args.seed, args.group_by),
        workers=args.workers,
        resize_masks=args.resize_masks,
        drop_empty=args.drop_empty,
        skip_bad=args.skip_bad,
        skip_flagged=tuple(args.skip_flagged),
        strict=args.strict,
    )
    if args.report and args.report.is_file():
        raise CrackError(f"--report {args.report} is a file; name a folder")
    with show_progress("pairs") as progress:
        result = convert(options, progress)
    print_result(result)
    if args.report:
        from crack_data.report import write_report  # draws pictures; slow to import

        print(f"report: {write_report(result, options, args.report)}")
    return 0


def print_result(result: ConversionResult) -> None:
    """Print the JSONs with their counts, then everything that needs a look."""
    _list("photos without a mask", result.photos_without_mask)
    _list("masks without a photo", result.masks_without_photo)
    _list("unusable, left out", result.bad_files())
    _list_suspicious(result.records)
    _list(
        "near-duplicates across splits",
        [f"{d.photo} ({d.split}), {d.other} ({d.other_split})" for d in result.near_duplicates],
    )
    for split, path in result.outputs.items():
        used = [r for r in result.records if r.split == split and not (r.error or r.left_out)]
        cracks = sum(record.instances for record in used)
        empty = sum(not record.instances for record in used)
        print(f"{path}: {len(used)} photos ({empty} without crack), {cracks} instances")


def _list_suspicious(records: list[PairRecord]) -> None:
    """The flags of all pairs, of each kind no more than a reader would look at."""
    times: Counter[str] = Counter()
    lines = []
    for record in records:
        for kind, value in record.flags.items():
            times[kind] += 1
            if times[kind] <= MOST_LISTED:
                left_out = " (left out)" if record.left_out else ""
                lines.append(f"{record.photo}: {kind} {value:.3g}{left_out}")
    for kind, number in times.items():
        if number > MOST_LISTED:
            lines.append(f"... and {number - MOST_LISTED} more {kind}; --report lists all")
    _list("suspicious", lines, times.total())


def _list(title: str, lines: list[str], number: int = 0) -> None:
    if lines:
        print(f"{title}: {number or len(lines)}")
        print("".join(f"  {_printable(line)}\n" for line in lines), end="")


def _printable(line: str) -> str:
    """A line that stays one, whatever the file names in it hold, undecodable bytes included."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


if __name__ == "__main__":
    run_tool(main)
