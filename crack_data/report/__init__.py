"""The page that lets a person inspect a converted data set before training on it."""

import base64
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import jinja2
import numpy as np

from ..convert.checks import FLAGS
from ..convert.conversion import ConversionResult
from ..convert.mask_files import read_mask
from ..convert.pairing import PairRecord
from ..convert.worker import ConversionOptions
from ..inference.drawing import colour_instances
from ..photos import read_photo
from ..segmentation import ignored_pixels, instance_masks
from ..storage import write_bytes

MAX_SIDE = 420  # px
SAMPLES = 60


def write_report(result: ConversionResult, options: ConversionOptions, folder: Path) -> Path:
    """Write ``flags.csv`` and the page, with the `SAMPLES` worst pairs in pictures: its path."""
    usable = worst_first([record for record in result.records if not record.error])
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = Path(__file__).with_name("page.html").read_text("utf-8")
    html = environment.from_string(template).render(
        result=result,
        options=options,
        counts={split or "all": result.used(split) for split in [*sorted(result.outputs), None]},
        spreads=_spreads(result.used()),
        meanings=FLAGS,
        flagged=[record for record in usable if record.flags],
        left_out=[record for record in result.records if record.error or record.left_out],
        samples=[(record, draw_pictures(record)) for record in usable[:SAMPLES]],
        usable=len(usable),
    )
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(("photo", "flag", "value"))
    for record in result.records:
        rows.writerows((record.photo, kind, f"{value:.6g}") for kind, value in record.flags.items())
    page = folder / "index.html"
    for path, text in ((page.with_name("flags.csv"), table.getvalue()), (page, html)):
        write_bytes(path, text.encode(errors="backslashreplace"))
    return page


def worst_first(records: list[PairRecord]) -> list[PairRecord]:
    """Pairs with most flags first, then by the largest robust z-score of instances, area, width."""
    if not records:
        return []
    values = np.array([[r.instances, r.coverage, r.mean_width] for r in records], np.float64)
    distances = np.abs(values - np.median(values, axis=0))
    scale = np.median(distances, axis=0)
    # Where more than half of the pairs agree, the mean deviation stands in for a median of 0.
    scale = np.where(scale > 0, scale, np.mean(distances, axis=0))
    unusual = (distances / np.where(scale > 0, scale, 1)).max(axis=1)
    rank = {id(record): -value for record, value in zip(records, unusual, strict=True)}
    return sorted(records, key=lambda r: (-len(r.flags), rank[id(r)], r.photo))


def draw_pictures(record: PairRecord) -> list[tuple[str, str]]:
    """Photo, mask as it came, cleaned mask and instances of a pair: captions and data: URLs."""
    photo = read_photo(record.photo)
    rows = [json.loads("{" + text) for text in record.annotations]
    truth = {"height": record.height, "width": record.width, "annotations": rows}
    labels = np.zeros((record.height, record.width), np.int32)
    for number, mask in enumerate(instance_masks(truth), start=1):
        labels[mask] = number
    masks = {"cleaned mask": (labels > 0) * np.uint8(255)}
    raw = []  # as they came, their values spread over 0 to 255
    for path in record.masks:
        values = read_mask(path).values.astype(np.float32)
        values *= 255 / max(float(values.max()), 1)
        raw.append(cv2.resize(values, labels.shape[::-1], interpolation=cv2.INTER_NEAREST))
    if raw:
        masks = {"mask as it came": np.maximum.reduce(raw).astype(np.uint8)} | masks
    # Masks become smaller by the brightest of the pixels merged, so that thin lines stay visible.
    square = np.ones((-(-max(labels.shape) // MAX_SIDE),) * 2, np.uint8)
    # Each instance has a colour of its own, and is thick enough to see on the dimmed photo.
    kernel = np.ones((2 * (max(labels.shape) // MAX_SIDE) + 1,) * 2, np.uint8)
    grown = cv2.dilate(labels.astype(np.float32), kernel).astype(np.int32)
    dim = np.where(ignored_pixels(truth)[..., None], np.uint8(140), photo // 3)
    coloured = np.where(grown[..., None] > 0, colour_instances(grown), dim)
    return [
        ("photo", _url(photo, "jpeg")),
        *((caption, _url(cv2.dilate(mask, square), "png")) for caption, mask in masks.items()),
        ("instances", _url(coloured, "jpeg")),
    ]


def _url(image: np.ndarray, kind: str) -> str:
    """The data: URL of an image, scaled down to `MAX_SIDE`."""
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 82] if kind == "jpeg" else []
    _, data = cv2.imencode(f".{kind}", small, quality)
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def _spreads(records: Sequence[PairRecord]) -> Iterator[tuple[str, list[str]]]:
    """Smallest, quarter, median, three quarters and largest of what the photos with cracks hold."""
    cracked = [record for record in records if record.instances]
    measures: dict[str, list[float]] = {
        "instances per photo": [record.instances for record in cracked],
        "crack area per photo, px": [record.crack_area for record in cracked],
        "coverage, percent of the photo": [record.coverage for record in cracked],
        "mean crack width, px": [record.mean_width for record in cracked],
    }
    for label, values in measures.items():
        steps = np.percentile(values or [0], (0, 25, 50, 75, 100))
        yield label, [f"{x:.4g}" if x < 1000 else f"{x:,.0f}" for x in steps]
