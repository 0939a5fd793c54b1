#!/usr/bin/env python
"""Convert photos with combined crack masks, or with labels drawn in other tools, to COCO JSON.

Photos and masks may lie in one folder or two, subfolders included: a mask is called as its photo
(a suffix such as _mask, _label or _gt may follow) and lies in a folder of the same name, apart
from words such as images and masks: train_img/a.jpg and train_lab/a_mask.png belong together.
Labels are COCO JSON (CVAT, Label Studio, Roboflow), labelme JSON, or YOLO-seg text.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.convert.checks import FLAGS
from crack_data.convert.cleaning import PRESETS, CleaningOptions, preset
from crack_data.convert.conversion import ConversionOptions, ConversionResult, convert
from crack_data.convert.mask_values import parse_values
from crack_data.convert.splits import SplitOptions, parse_shares
from crack_data.convert.worker import PairRecord
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
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--masks", type=Path, metavar="DIR")
    source.add_argument("--labels", type=Path, metavar="FILE|DIR")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.json")
    _add_meaning(parser.add_argument_group("what masks and labels mean"))
    _add_cleaning(parser.add_argument_group("cleaning", "changes to the preset, lengths in px"))
    _add_json(parser.add_argument_group("instances and splits"))
    _add_checks(parser.add_argument_group("checks"))
    return parser.parse_args()


def _add_meaning(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask-pattern", default="", metavar="TEXT",
        help="what masks are called: mask_{stem}, {stem}-crack, {stem}_*",
    )  # fmt: skip
    group.add_argument(
        "--crack-value", default="", metavar="V[,V]",
        help="mask values that are crack: 127 or #ff0000; default: told from the set",
    )  # fmt: skip
    group.add_argument(
        "--ignore-value", default="", metavar="V[,V]",
        help="mask values of pixels that should not count",
    )  # fmt: skip
    group.add_argument(
        "--category", default="", metavar="NAME[,NAME]",
        help="categories of labels that are cracks; default: crack",
    )  # fmt: skip
    group.add_argument(
        "--line-width", default=3.0, type=float, metavar="PX",
        help="width of cracks that are drawn as lines (3)",
    )  # fmt: skip
    group.add_argument(
        "--photos-without-mask", default="leave-out", dest="without_mask",
        choices=("leave-out", "crack-free"),
    )  # fmt: skip


def _add_cleaning(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", default="thin", choices=sorted(PRESETS))
    group.add_argument("--threshold", type=_level, metavar="auto|otsu|0-254")
    group.add_argument("--invert", choices=("auto", "yes", "no"), help="yes: cracks are dark")
    group.add_argument("--opening", type=int, metavar="N", help="kernel side, 0: none")
    group.add_argument("--closing", type=int, metavar="N", help="kernel side, 0: none")
    group.add_argument("--min-area", type=int, metavar="N", help="drop smaller components")
    group.add_argument("--fill-holes", type=int, metavar="N", help="fill holes up to this area")
    group.add_argument(
        "--link-gap", type=int, metavar="N",
        help="pieces that face each other across up to N px are one crack, 0: none (36)",
    )  # fmt: skip
    group.add_argument("--connectivity", type=int, choices=(4, 8))


def _level(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _add_json(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--instances", default="components",
                       choices=("components", "values", "single"))  # fmt: skip
    group.add_argument("--mask-format", default="rle", choices=("rle", "polygon"))
    group.add_argument("--drop-empty", action="store_true", help="leave out photos without crack")
    group.add_argument("--split", default="", metavar="train=0.8,val=0.1,test=0.1")
    group.add_argument("--seed", default=0, type=int, help="of the split")
    group.add_argument("--group-by", default="", metavar="REGEX",
                       help="photos whose names agree in it stay together")  # fmt: skip
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


def options_of(args: argparse.Namespace) -> ConversionOptions:
    """The options that a command line says."""
    given = vars(args)
    changes = {f.name: given.get(f.name) for f in fields(CleaningOptions)}
    same = {f.name: given[f.name] for f in fields(ConversionOptions) if f.name in given}
    return ConversionOptions(**same | {
        "cleaning": preset(args.preset, **{k: v for k, v in changes.items() if v is not None}),
        "splits": SplitOptions(parse_shares(args.split), args.seed, args.group_by),
        "crack_values": parse_values(args.crack_value),
        "ignore_values": parse_values(args.ignore_value),
        "categories": tuple(filter(None, args.category.split(","))),
        "skip_flagged": tuple(args.skip_flagged),
    })  # fmt: skip


def main() -> int:
    """Convert and say what came of it."""
    args = parse_args()
    options = options_of(args)
    if args.report and args.report.is_file():
        raise CrackError(f"--report {args.report} is a file; name a folder")
    with show_progress("files") as progress:
        result = convert(options, progress)
    print_result(result)
    if args.report:
        from crack_data.report import write_report  # draws pictures; slow to import

        print(f"report: {write_report(result, options, args.report)}")
    return 0


def print_result(result: ConversionResult) -> None:
    """Print everything that needs a look, then the JSONs with their counts."""
    _list("photos without a mask", result.photos_without_mask)
    _list("masks without a photo", result.masks_without_photo)
    _list("unusable, left out", result.bad_files())
    _list_flags(result.records)
    _list(
        "near-duplicates across splits",
        [f"{d.photo} ({d.split}), {d.other} ({d.other_split})" for d in result.near_duplicates],
    )
    for note in result.notes:
        print(_printable(note))
    for split, path in result.outputs.items():
        used = result.used(split)
        cracks = sum(record.instances for record in used)
        empty = sum(not record.instances for record in used)
        print(f"{path}: {len(used)} photos ({empty} without crack), {cracks} instances")


def _list_flags(records: list[PairRecord]) -> None:
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
