"""index.html and flags.csv: counts, histograms, suspicious pairs and a contact sheet."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt

from ..convert.checks import FLAGS
from ..convert.conversion import ConversionOptions, ConversionResult
from ..convert.worker import PairRecord
from ..files import atomic_write
from .pictures import draw_histograms, draw_sample

MAX_SAMPLES = 60
MEASURES = ("instances", "coverage", "mean_width")


def write_report(
    result: ConversionResult,
    options: ConversionOptions,
    folder: str | os.PathLike[str],
    samples: int = MAX_SAMPLES,
) -> Path:
    """Write ``index.html``, which opens from disk and loads nothing, and ``flags.csv``.

    Args:
        result: what a conversion returned.
        options: what it was told.
        folder: made where missing; both files replace older ones.
        samples: pairs in the contact sheet, the worst first.

    Returns:
        the page's path.

    Raises:
        CrackError: the folder cannot be written to, or a file of the set has become unreadable.
    """
    page = Path(folder) / "index.html"
    html = _render(result, options, samples)
    with atomic_write(Path(folder) / "flags.csv") as file:
        file.write(_flags_csv(result.records).encode(errors="backslashreplace"))
    with atomic_write(page) as file:
        file.write(html.encode(errors="backslashreplace"))
    return page


def _render(result: ConversionResult, options: ConversionOptions, samples: int) -> str:
    usable = worst_first([record for record in result.records if not record.error])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        result=result,
        options=options,
        counts={split or "all": result.used(split) for split in [*sorted(result.outputs), None]},
        histograms=draw_histograms(result.used()),
        meanings=FLAGS,
        flagged=[record for record in usable if record.flags],
        left_out=[record for record in result.records if record.error or record.left_out],
        samples=[draw_sample(record) for record in usable[:samples]],
        usable=len(usable),
    )


def worst_first(records: list[PairRecord]) -> list[PairRecord]:
    """Flagged pairs, those with most flags first, then the others, the most unusual first.

    How unusual a pair is: the largest robust z-score (distance from the median in median absolute
    deviations) of its number of instances, its coverage and its mean width.
    """
    if not records:
        return []
    unusual = _unusual(records)
    order = sorted(
        range(len(records)),
        key=lambda i: (-len(records[i].flags), -unusual[i], records[i].photo),
    )
    return [records[i] for i in order]


def _unusual(records: list[PairRecord]) -> npt.NDArray[np.float64]:
    values = np.array([[getattr(r, name) for name in MEASURES] for r in records], np.float64)
    distances = np.abs(values - np.median(values, axis=0))
    scale = np.median(distances, axis=0)
    # Where more than half of the pairs agree, the mean deviation stands in for a median of 0.
    scale = np.where(scale > 0, scale, np.mean(distances, axis=0))
    scores: npt.NDArray[np.float64] = (distances / np.where(scale > 0, scale, 1)).max(axis=1)
    return scores


def _flags_csv(records: list[PairRecord]) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("photo", "flag", "value"))
    for record in records:
        rows.writerows((record.photo, kind, f"{value:.6g}") for kind, value in record.flags.items())
    return text.getvalue()
