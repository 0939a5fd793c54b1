#!/usr/bin/env python
"""Measure what cleaning keeps of masks, what the sets hold after it, and which pairs look wrong."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from crack_data.convert.checks import MIN_GAIN, turning_gains
from crack_data.convert.cleaning import PRESETS, binarize, find_cracks
from crack_data.convert.conversion import convert
from crack_data.convert.mask_files import read_mask
from crack_data.convert.pairing import PairRecord, pair_files, stem_of
from crack_data.convert.worker import ConversionOptions
from crack_data.errors import CrackError, run_tool
from crack_data.photos import probe_photo

REPO = Path(__file__).resolve().parent.parent
SETS = ("deepcrack_train", "crackseg448", "cfd_train", "crack500_train")


def pairs_of(data: Path, name: str) -> list[PairRecord]:
    """The pairs of one of the sets."""
    return pair_files(data / name / "images", data / name / "masks").records


def quality(data: Path) -> None:
    """Pixels that each preset keeps and adds; noise added to clean masks and removed again."""
    print("set                 raw components  preset   components  kept %  added %")
    pairs = pairs_of(data, "crackseg448")
    thin = [pair for pair in pairs if stem_of(pair.photo).startswith("cracktree200")]
    for name, pairs in [*((n, pairs_of(data, n)) for n in SETS), ("cracktree200", thin)]:
        _print_kept(name, [read_mask(pair.masks[0]).values for pair in pairs])
    clean = [read_mask(pair.masks[0]).values for pair in pairs_of(data, "deepcrack_train")]
    print("deepcrack_train as JPEG quality 75, with salt (share of pixels) and specks (per mask):")
    for salt, specks in ((0.0005, 10), (0.001, 20)):
        _print_recovered(clean, salt, specks)


def _print_kept(name: str, greys: list[np.ndarray]) -> None:
    raw = [binarize(grey, "auto") for grey in greys]
    total = sum(int(mask.sum()) for mask in raw)
    pieces = sum(_components(mask) for mask in raw)
    for preset in ("thin", "classic"):
        cleaned = [(find_cracks(grey, PRESETS[preset]) > 0).view(np.uint8) for grey in greys]
        kept = sum(int((a & b).sum()) for a, b in zip(cleaned, raw, strict=True))
        added = sum(int(mask.sum()) for mask in cleaned) - kept
        count = sum(_components(mask) for mask in cleaned)
        shares = f"{100 * kept / total:6.2f}  {100 * added / total:6.3f}"
        print(f"{name:18s}  {pieces:14d}  {preset:7s}  {count:10d}  {shares}")


def _print_recovered(greys: list[np.ndarray], salt: float, specks: int) -> None:
    rng = np.random.default_rng(0)
    common = union = before = after = 0
    for grey in greys:
        true = (grey > 127).astype(np.uint8)
        cleaned = (find_cracks(_spoil(grey, salt, specks, rng), PRESETS["thin"]) > 0).view(np.uint8)
        common += int((true & cleaned).sum())
        union += int((true | cleaned).sum())
        before += _components(true)
        after += _components(cleaned)
    print(f"  {salt:.2%}, {specks}: IoU {common / union:.4f}, components {before} -> {after}")


def _components(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask, connectivity=8)[0] - 1


def _spoil(grey: np.ndarray, salt: float, specks: int, rng: np.random.Generator) -> np.ndarray:
    noisy = np.where(rng.random(grey.shape) < salt, np.uint8(255), grey)
    for _ in range(specks):
        y, x = (int(rng.integers(0, side - 4)) for side in grey.shape)
        height, width = rng.integers(1, 5, 2)
        noisy[y : y + height, x : x + width] = 255
    saved = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.asarray(cv2.imdecode(saved, cv2.IMREAD_GRAYSCALE))


def statistics(data: Path) -> None:
    """What the four sets hold after cleaning with each preset, as a Markdown table."""
    print("| set | preset | photos | without crack | instances | crack, % of pixels | width, px |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for name in SETS:
            for preset in ("thin", "classic"):
                _print_statistics(data / name, preset, Path(temporary) / "crack.json")


def _print_statistics(folder: Path, preset: str, output: Path) -> None:
    options = ConversionOptions(
        folder / "images", folder / "masks", output, cleaning=PRESETS[preset], workers=0
    )
    records = convert(options).records
    cracked = [record for record in records if record.instances]
    coverage = np.mean([record.coverage for record in records])
    width = np.median([record.mean_width for record in cracked])
    instances = sum(record.instances for record in records)
    print(
        f"| {folder.name} | {preset} | {len(records)} | {len(records) - len(cracked)} | "
        f"{instances} | {coverage:.2f} | {width:.1f} |"
    )


def flags(data: Path) -> None:
    """The pairs whose masks fit best when turned, and the next ones below the limit."""
    found = []
    for name in SETS:
        for pair in pairs_of(data, name):
            labels = find_cracks(read_mask(pair.masks[0]).values, PRESETS["thin"])
            mask = np.greater(labels, 0).view(np.uint8)
            if mask.any():
                gains = turning_gains(probe_photo(pair.photo)[2], mask)
                kind = max(gains, key=lambda key: gains[key])
                found.append((gains[kind], kind, f"{name}/{stem_of(pair.photo)}"))
    for gain, kind, photo in sorted(found, reverse=True)[:10]:
        print(f"{'flagged' if gain > MIN_GAIN else '       '} {gain:6.3f}  {kind:12s} {photo}")


def main() -> int:
    """Run the chosen measurements."""
    measurements: dict[str, Callable[[Path], None]] = {
        "quality": quality,
        "statistics": statistics,
        "flags": flags,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"{', '.join(measurements)}; default: all")
    default = os.environ.get("CRACK_SHARED", REPO.parent / "shared")
    parser.add_argument("--shared", type=Path, default=default, help="folder that holds data/")
    args = parser.parse_args()
    for name in args.what or measurements:
        if name not in measurements:
            raise CrackError(f"no measurement {name}; there are {', '.join(measurements)}")
        print(f"== {name}")
        measurements[name](args.shared / "data")
    return 0


if __name__ == "__main__":
    run_tool(main)
