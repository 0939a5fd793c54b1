#!/usr/bin/env python
"""Convert photos with combined crack masks, or with labels drawn in other tools, to COCO JSON.

Photos and masks may lie in one folder or two, subfolders included: a mask is called as its photo
(a suffix such as _mask, _label or _gt may follow) and lies in a folder of the same name, apart
from words such as images and masks: train_img/a.jpg and train_lab/a_mask.png belong together.
Labels are COCO JSON (CVAT, Label Studio, Roboflow), labelme JSON, or YOLO-seg text.
"""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from dataclasses import fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.convert.checks import FLAGS
from crack_data.convert.cleaning import PRESETS, CleaningOptions
from crack_data.convert.conversion import ConversionResult, convert
from crack_data.convert.linking import DEFAULT_GAP
from crack_data.convert.mask_values import parse_values
from crack_data.convert.splits import parse_shares
from crack_data.convert.worker import CHOICES, ConversionOptions
from crack_data.errors import CrackError, run_tool


def parse_args() -> Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, type=_place, metavar="DIR")
    parser.add_argument("--masks", type=_place, metavar="DIR")
    parser.add_argument("--labels", type=_place, metavar="FILE|DIR", help="instead of --masks")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.json")
    add = parser.add_argument_group("what masks and labels mean").add_argument
    patterns = "what masks are called: mask_{stem}, {stem}-crack, {stem}_*"
    add("--mask-pattern", default="", metavar="TEXT", help=patterns)
    add("--crack-value", default="", metavar="V[,V]", help="of masks that are crack: 127, #ff0000")
    add("--ignore-value", default="", metavar="V[,V]", help="of pixels that should not count")
    add("--category", default="", metavar="NAME[,NAME]", help="of labels that are cracks (crack)")
    add("--line-width", default=3.0, type=float, metavar="PX", help="of cracks drawn as lines (3)")
    add("--photos-without-mask", default="leave-out", dest="without_mask",
        choices=CHOICES["without_mask"])  # fmt: skip
    add("--invert", default="auto", choices=CHOICES["invert"], help="yes: cracks are dark")
    add("--resize-masks", action="store_true", help="scale masks of another size")
    add = parser.add_argument_group("cleaning", "changes to the preset").add_argument
    add("--preset", default="thin", choices=sorted(PRESETS))
    add("--threshold", type=lambda x: int(x) if x.isdecimal() else x, metavar="auto|otsu|0-254")
    add("--opening", type=int, metavar="N", help="kernel side in px, 0: none")
    add("--closing", type=int, metavar="N", help="kernel side in px, 0: none")
    add("--min-area", type=int, metavar="N", help="drop components of fewer px")
    add("--fill-holes", type=int, metavar="N", help="fill holes of up to so many px")
    gap = f"pieces that face each other across up to N px are one crack, 0: none ({DEFAULT_GAP})"
    add("--link-gap", type=int, metavar="N", help=gap)
    add("--connectivity", type=int, choices=(4, 8))
    add = parser.add_argument_group("instances, splits and checks").add_argument
    what = "components, linked; each value of the masks; or all of a photo together"
    add("--instances", default="components", choices=CHOICES["instances"], help=what)
    add("--mask-format", default="rle", choices=CHOICES["mask_format"], help="in the JSON")
    add("--drop-empty", action="store_true", help="leave out photos without crack")
    add("--split", default="", metavar="train=0.8,val=0.1,test=0.1")
    add("--seed", default=0, type=int, help="of the split")
    add("--group-by", default="", metavar="REGEX", help="names that agree in it stay together")
    add("--workers", default=0, type=int, metavar="N", help="processes; 0 chooses")
    add("--strict", action="store_true", help="files without partner are errors")
    add("--skip-bad", action="store_true", help="leave out files that are unusable")
    flagged = f"leave out suspicious pairs: {', '.join(FLAGS)}; may be repeated"
    add("--skip-flagged", action="append", default=[], metavar="KIND", help=flagged)
    add("--report", type=Path, metavar="DIR", help="write an HTML page to look at")
    return parser.parse_args()


def _place(text: str) -> Path:
    if not text:  # Path("") is the current folder
        raise ArgumentTypeError("the path is empty; name a folder, . for the current one")
    return Path(text)


def main() -> None:
    """Convert and say what came of it."""
    args = parse_args()
    given = {name: x for name, x in vars(args).items() if x is not None}
    changes = {f.name: given[f.name] for f in fields(CleaningOptions) if f.name in given}
    same = {f.name: given[f.name] for f in fields(ConversionOptions) if f.name in given}
    options = ConversionOptions(**same | {
        "masks": args.masks,
        "cleaning": replace(PRESETS[args.preset], **changes),
        "shares": parse_shares(args.split),
        "crack_values": parse_values(args.crack_value),
        "ignore_values": parse_values(args.ignore_value),
        "categories": tuple(filter(None, map(str.strip, args.category.split(",")))),
        "skip_flagged": tuple(args.skip_flagged),
    })  # fmt: skip
    if args.report:
        page, table = args.report / "index.html", args.report / "flags.csv"
        others = page.exists() != table.exists()  # which no report wrote
        if others or args.report.is_file() or args.report == Path():
            raise CrackError(f"--report {args.report} must be a folder of its own")
    result = convert(options)
    print_result(result)
    if args.report:
        from crack_data.report import write_report  # draws pictures; slow to import

        print(f"report: {write_report(result, options, args.report)}")


def print_result(result: ConversionResult) -> None:
    """Print everything that needs a look, then the JSONs with their counts."""
    _list("photos without a mask", result.photos_without_mask)
    _list("masks without a photo", result.masks_without_photo)
    _list("unusable, left out", result.bad_files())
    for kind in FLAGS:
        flagged = [
            f"{record.photo}: {record.flags[kind]:.3g}{' (left out)' if record.left_out else ''}"
            for record in result.records
            if kind in record.flags
        ]
        _list(f"suspicious, {kind}", flagged, most=20)  # those of one mask may be thousands
    pairs = [f"{a.photo} ({a.split}), {b.photo} ({b.split})" for a, b, _ in result.near_duplicates]
    _list("near-duplicates across splits", pairs)
    for note in result.notes:
        print(note)
    for split, path in result.outputs.items():
        counts = [record.instances for record in result.used(split)]
        empty = f"{counts.count(0)} without crack"
        print(f"{path}: {len(counts)} photos ({empty}), {sum(counts)} instances")


def _list(title: str, lines: list[str], most: int | None = None) -> None:
    if lines:
        print(f"{title}: {len(lines)}", *lines[:most], sep="\n  ")
    if most and len(lines) > most:
        print(f"  ... and {len(lines) - most} more; --report lists all")


if __name__ == "__main__":
    run_tool(main)
