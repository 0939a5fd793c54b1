#!/usr/bin/env python
"""Measure the converter: what cleaning keeps, which pairs it suspects, speed and memory."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import psutil
from PIL import Image
from pycocotools import mask as coco_mask

from crack_data.converter import ConversionOptions, convert
from crack_data.converter.pair_worker import mean_width
from crack_data.converter.photo_probe import SCALE, probe_photo
from crack_data.converter.suspicion import MIN_GAIN, suspicions, turning_gains
from crack_data.errors import CrackError, run_tool
from crack_data.masks import PRESETS, binarize, clean_mask, label_instances
from crack_data.masks.components import label_components
from crack_data.masks.files import read_mask
from crack_data.pairing import Pair, find_pairs

REPO = Path(__file__).resolve().parent.parent
SETS = ("deepcrack_train", "crackseg448", "cfd_train", "crack500_train")


def pairs_of(data: Path, name: str) -> list[Pair]:
    """The pairs of one of the sets."""
    return find_pairs(data / name / "images", data / name / "masks").pairs


def quality(data: Path) -> None:
    """Pixels that each preset keeps and adds; noise added to clean masks and removed again."""
    print("set                 raw components  preset   components  kept %  added %")
    thin = [pair for pair in pairs_of(data, "crackseg448") if pair.stem.startswith("cracktree200")]
    for name, pairs in [*((n, pairs_of(data, n)) for n in SETS), ("cracktree200", thin)]:
        _print_kept(name, [read_mask(pair.mask) for pair in pairs])
    clean = [read_mask(pair.mask) for pair in pairs_of(data, "deepcrack_train")]
    print("deepcrack_train as JPEG quality 75, with salt (share of pixels) and specks (per mask):")
    for salt, specks in ((0.0005, 10), (0.001, 20)):
        _print_recovered(clean, salt, specks)


def _print_kept(name: str, greys: list[np.ndarray]) -> None:
    raw = [binarize(grey, PRESETS["thin"]) for grey in greys]
    total = sum(int(mask.sum()) for mask in raw)
    pieces = sum(label_components(mask, 8)[0] for mask in raw)
    for preset in ("thin", "classic"):
        cleaned = [clean_mask(grey, PRESETS[preset]) for grey in greys]
        kept = sum(int((a & b).sum()) for a, b in zip(cleaned, raw, strict=True))
        added = sum(int(mask.sum()) for mask in cleaned) - kept
        count = sum(label_components(mask, 8)[0] for mask in cleaned)
        shares = f"{100 * kept / total:6.2f}  {100 * added / total:6.3f}"
        print(f"{name:18s}  {pieces:14d}  {preset:7s}  {count:10d}  {shares}")


def _print_recovered(greys: list[np.ndarray], salt: float, specks: int) -> None:
    rng = np.random.default_rng(0)
    common = union = before = after = 0
    for grey in greys:
        true = (grey > 127).astype(np.uint8)
        cleaned = clean_mask(_spoil(grey, salt, specks, rng), PRESETS["thin"])
        common += int((true & cleaned).sum())
        union += int((true | cleaned).sum())
        before += label_components(true, 8)[0]
        after += label_components(cleaned, 8)[0]
    print(f"  {salt:.2%}, {specks}: IoU {common / union:.4f}, components {before} -> {after}")


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
        folder / "images", folder / "masks", output, PRESETS[preset], workers=0
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
            mask = clean_mask(read_mask(pair.mask), PRESETS["thin"])
            if mask.any():
                gains = turning_gains(probe_photo(pair.photo)[2], mask)
                kind = max(gains, key=lambda key: gains[key])
                found.append((gains[kind], kind, f"{name}/{pair.stem}"))
    for gain, kind, photo in sorted(found, reverse=True)[:10]:
        print(f"{'flagged' if gain > MIN_GAIN else '       '} {gain:6.3f}  {kind:12s} {photo}")


def speed(data: Path) -> None:
    """Throughput beside a plain script with the same result, and beside decoding alone.

    The plain script is given this project's cleaning and checks, so that it differs by what it is
    there to show: whole photos read with cv2, one mask in the photo's size encoded per component,
    one process.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for name in SETS:
            pairs = pairs_of(data, name)
            _print_speed(name, pairs, data / name, Path(temporary) / "crack.json")


def _print_speed(name: str, pairs: list[Pair], folder: Path, output: Path) -> None:
    ours = [sys.executable, str(REPO / "tools" / "convert_to_coco.py"), "--output", str(output)]
    ours += ["--images", str(folder / "images"), "--masks", str(folder / "masks")]
    cv2.setNumThreads(1)
    plain = _cpu(lambda: plain_convert(pairs, output))
    expected = json.loads(output.read_bytes())
    decode = _cpu(lambda: _decode(pairs))  # after it: the first megabytes of a process cost extra
    options = ConversionOptions(folder / "images", folder / "masks", output)
    one = _cpu(lambda: convert(options))
    start = time.monotonic()
    subprocess.run(ours, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - start
    if json.loads(output.read_bytes())["annotations"] != expected:
        raise CrackError(f"{name}: the plain script gives other annotations")
    milliseconds = [1000 * seconds / len(pairs) for seconds in (decode, plain, one)]
    print(
        f"{name}: cpu ms per pair: cv2.imread {milliseconds[0]:.2f}, plain script "
        f"{milliseconds[1]:.2f}, ours {milliseconds[2]:.2f}; on two cores "
        f"{2 * plain / one:.1f} x plain, {decode / one:.2f} of the decoding limit; "
        f"command {wall:.1f} s with start-up, at load {os.getloadavg()[0]:.1f}"
    )


def _decode(pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        cv2.imread(pair.photo)
        cv2.imread(pair.mask)


def plain_convert(pairs: Iterable[Pair], output: Path) -> None:
    """The same conversion as one writes it first: whole photos, one mask per component."""
    annotations: list[dict[str, object]] = []
    for number, pair in enumerate(pairs, start=1):
        photo = cv2.cvtColor(cv2.imread(pair.photo), cv2.COLOR_BGR2GRAY)
        grey = cv2.imread(pair.mask, cv2.IMREAD_GRAYSCALE)
        mask = clean_mask(np.asarray(grey), PRESETS["thin"])
        suspicions(pair.stem, np.asarray(Image.fromarray(photo).reduce(SCALE)), mask)
        mean_width(mask)
        count, labels = label_instances(mask, PRESETS["thin"])
        for label in range(1, count + 1):
            rle = coco_mask.encode(np.asfortranarray(labels == label, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [int(value) for value in coco_mask.toBbox(rle)],
                    "area": int(coco_mask.area(rle)),
                    "iscrowd": 0,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    output.write_text(json.dumps(annotations))


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def memory(sizes: tuple[int, ...] = (5000, 20000)) -> None:
    """Peak memory of the command with all its workers on generated sets, and the slope."""
    peaks = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            _generate(Path(folder), size)
            peaks.append(_peak_mb(Path(folder)))
        print(f"{size} pairs: {peaks[-1]:.0f} MB")
    slope = (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])
    total = peaks[0] + slope * (100_000 - sizes[0])
    print(f"slope {1000 * slope:.2f} kB per pair: {total:.0f} MB for 100000 pairs")


def _generate(folder: Path, size: int) -> None:
    """Small photos under many names; five instances each."""
    for part in ("images", "masks"):
        (folder / part).mkdir()
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), np.uint8)
    mask[6::13, 4:60] = mask[7::13, 4:60] = 255
    photo = rng.integers(90, 180, mask.shape, np.uint8)
    first = (folder / "images" / "photo_000000.jpg", folder / "masks" / "photo_000000.png")
    cv2.imwrite(str(first[0]), photo)
    cv2.imwrite(str(first[1]), mask)
    for number in range(1, size):
        for path in first:
            os.link(path, path.with_name(f"photo_{number:06d}{path.suffix}"))


def _peak_mb(folder: Path) -> float:
    command = [sys.executable, str(REPO / "tools" / "convert_to_coco.py"), "--workers", "2"]
    command += ["--images", str(folder / "images"), "--masks", str(folder / "masks")]
    command += ["--output", str(folder / "crack.json"), "--split", "train=0.8,val=0.2"]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tool:
        while tool.poll() is None:
            peak = max(peak, _tree_mb(tool.pid))
            time.sleep(0.1)
    if tool.returncode:
        raise CrackError(f"the conversion ended with code {tool.returncode}")
    return peak


def _tree_mb(pid: int) -> float:
    """Memory of a process and its children; shared pages count once (PSS)."""
    total = 0
    try:
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_full_info().pss
    except psutil.Error:
        return 0.0  # one ended meanwhile
    return total / 2**20


def main() -> int:
    """Run the chosen measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", nargs="*", help="quality, statistics, flags, speed, memory; default: all"
    )
    default = os.environ.get("CRACK_SHARED", REPO.parent / "shared")
    parser.add_argument("--shared", type=Path, default=default, help="folder that holds data/")
    args = parser.parse_args()
    measurements: dict[str, Callable[[], None]] = {
        "quality": lambda: quality(args.shared / "data"),
        "statistics": lambda: statistics(args.shared / "data"),
        "flags": lambda: flags(args.shared / "data"),
        "speed": lambda: speed(args.shared / "data"),
        "memory": memory,
    }
    for name in args.what or measurements:
        if name not in measurements:
            raise CrackError(f"no measurement {name}; there are {', '.join(measurements)}")
        print(f"== {name}")
        measurements[name]()
    return 0


if __name__ == "__main__":
    run_tool(main)
