"""index.html and flags.csv: counts, histograms, suspicious pairs and a contact sheet."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

import jinja2

from ..convert.conversion import ConversionOptions
from ..convert.records import ConversionResult, PairRecord
from ..convert.suspicion import FLAGS
from ..files import atomic_write
from .histograms import draw_histograms
from .ordering import worst_first
from .samples import Sample, draw_sample

MAX_SAMPLES = 60


@dataclass(frozen=True)
class _Counts:
    """One row of the table of splits."""

    name: str
    photos: int
    without_crack: int
    instances: int
    coverage: float  # mean percent


def write_report(
    result: ConversionResult,
    options: ConversionOptions,
    folder: str | os.PathLike[str],
    samples: int = MAX_SAMPLES,
) -> Path:
    """Write ``index.html``, which opens from disk and loads nothing, and ``flags.csv``.

    Args:
        result: what a conversion returned.
        options: what it was told, for cleaning the masks of the contact sheet again.
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
        file.write(_flags_csv(result.records).encode())
    with atomic_write(page) as file:
        file.write(html.encode())
    return page


def _render(result: ConversionResult, options: ConversionOptions, samples: int) -> str:
    usable = [record for record in result.records if not record.error]
    used = [record for record in usable if not record.left_out]
    sheet = worst_first(usable)[:samples]
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
        counts=_counts(used),
        histograms=draw_histograms(used),
        meanings=FLAGS,
        flagged=[record for record in worst_first(usable) if record.flags],
        left_out=[record for record in result.records if record.error or record.left_out],
        samples=[_sample(record, options) for record in sheet],
        usable=len(usable),
    )


def _sample(record: PairRecord, options: ConversionOptions) -> Sample:
    return draw_sample(record, options.cleaning, options.instances == "single")


def _counts(used: list[PairRecord]) -> list[_Counts]:
    splits = sorted({record.split for record in used})
    groups = [(name, [r for r in used if r.split == name]) for name in splits if name]
    return [_count(name, records) for name, records in [*groups, ("all", used)]]


def _count(name: str, records: list[PairRecord]) -> _Counts:
    return _Counts(
        name=name,
        photos=len(records),
        without_crack=sum(not record.instances for record in records),
        instances=sum(record.instances for record in records),
        coverage=sum(record.coverage for record in records) / max(len(records), 1),
    )


def _flags_csv(records: list[PairRecord]) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("photo", "flag", "value"))
    for record in records:
        rows.writerows((record.photo, kind, f"{value:.6g}") for kind, value in record.flags.items())
    return text.getvalue()
