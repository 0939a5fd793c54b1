"""The report's pictures: pairs of the contact sheet, and histograms as inline SVG."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..convert.mask_files import read_mask
from ..convert.worker import PairRecord
from ..photos import read_photo
from ..segmentation import decode_mask

MAX_SIDE = 420  # px
GOLDEN = 0.618034
IGNORED = 140  # grey level
BINS = 24


@dataclass(frozen=True)
class Sample:
    """The pictures of a pair as captions and ``data:`` URLs, at most `MAX_SIDE` px a side."""

    record: PairRecord
    pictures: list[tuple[str, str]]


def draw_sample(record: PairRecord) -> Sample:
    """Draw a pair: photo, mask as it came if there is one, cleaned mask, instances in colours.

    Args:
        record: of a pair that could be used.

    Raises:
        CrackError: a file cannot be read any more.
    """
    photo = read_photo(record.photo)
    labels, ignored = _decode(record)
    pictures = [("photo", _url(_small(photo), ".jpg"))]
    if record.masks:
        raw = _raw_mask(record)
        pictures.append(("mask as it came", _url(_small_mask(raw), ".png")))
    cleaned = (labels > 0).astype(np.uint8) * np.uint8(255)
    pictures.append(("cleaned mask", _url(_small_mask(cleaned), ".png")))
    pictures.append(("instances", _url(_coloured(photo, labels, ignored), ".jpg")))
    return Sample(record, pictures)


def _decode(record: PairRecord) -> tuple[np.ndarray, np.ndarray]:
    """The instances as a label map, HxW, and the ignored pixels, bool HxW."""
    labels = np.zeros((record.height, record.width), np.int32)
    ignored = np.zeros(labels.shape, np.bool_)
    for number, text in enumerate(record.annotations, start=1):
        entry = json.loads("{" + text)
        mask = decode_mask(entry["segmentation"], *labels.shape)
        if entry["iscrowd"]:
            ignored |= mask
        else:
            labels[mask] = number
    return labels, ignored


def _raw_mask(record: PairRecord) -> np.ndarray:
    """The masks as they came, united, in the photo's size, their values spread over 0 to 255."""
    size = (record.width, record.height)
    united = np.zeros((record.height, record.width), np.float32)
    for path in record.masks:
        values = read_mask(path).values.astype(np.float32)
        values *= 255 / max(float(values.max(initial=0)), 1)
        united = np.maximum(united, cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))
    return united.astype(np.uint8)


def _coloured(photo: np.ndarray, labels: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """The photo, dimmed, with each instance in a colour of its own and thick enough to see."""
    radius = max(labels.shape) // MAX_SIDE + 1
    kernel = np.ones((2 * radius - 1,) * 2, np.uint8)
    grown = cv2.dilate(labels.astype(np.float32), kernel).astype(np.int32)
    dim = np.where(ignored[..., None], np.uint8(IGNORED), photo // 3)
    return _small(np.where(grown[..., None] > 0, _palette(int(labels.max(initial=0)))[grown], dim))


def _palette(count: int) -> np.ndarray:
    """``count`` + 1 BGR colours of neighbouring labels far apart in hue; number 0 is not used."""
    hues = (np.arange(count + 1) * GOLDEN % 1 * 180).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], axis=-1)
    return _array(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR))[0]


def _small_mask(mask: np.ndarray) -> np.ndarray:
    """A mask scaled down so that thin lines stay visible: the brightest of the pixels merged."""
    factor = -(-max(mask.shape) // MAX_SIDE)
    return _small(_array(cv2.dilate(mask, np.ones((factor, factor), np.uint8))))


def _small(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, MAX_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return _array(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _url(image: np.ndarray, suffix: str) -> str:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 82] if suffix == ".jpg" else []
    _, data = cv2.imencode(suffix, image, quality)
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def _array(image: Any) -> np.ndarray:
    return np.asarray(image)


def draw_histograms(records: Sequence[PairRecord]) -> Markup:
    """Four histograms over photos as one SVG element; photos without crack count in the first."""
    cracked = [record for record in records if record.instances]
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(2, 2).flat
    _histogram(next(axes), "instances per photo", [record.instances for record in records])
    _histogram(next(axes), "crack area per photo, px", [r.crack_area for r in cracked], log=True)
    _histogram(next(axes), "mean crack width, px", [record.mean_width for record in cracked])
    coverage = [record.coverage for record in cracked]
    _histogram(next(axes), "coverage, percent of the photo", coverage, log=True)
    text = io.StringIO()
    # A fixed salt and no date: the same data gives the same page.
    with mpl.rc_context({"svg.hashsalt": "cracks", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    svg = text.getvalue()
    return Markup(svg[svg.index("<svg") :])


def _histogram(axes: Axes, label: str, values: Sequence[float], log: bool = False) -> None:
    low, high = min(values, default=1), max(values, default=1)
    if log:
        edges = np.geomspace(low / 1.05, high * 1.05, BINS + 1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif high <= 2 * BINS and all(isinstance(value, int) for value in values):
        edges = np.arange(-0.5, high + 1)
    else:
        edges = np.linspace(0, max(high, 1e-9), BINS + 1)
    axes.hist(values, bins=edges.tolist(), color="#b3261e", edgecolor="white", linewidth=0.5)
    if len(values):
        middle = float(np.median(values))
        axes.axvline(middle, color="#333", linewidth=1, linestyle="--")
        label = f"{label} (median {middle:{'.0f' if middle >= 100 else '.3g'}})"
    axes.set_xlabel(label)
    axes.set_ylabel("photos")
    axes.spines[["top", "right"]].set_visible(False)
