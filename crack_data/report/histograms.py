"""How instances, areas, widths and coverage are distributed, as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..convert.records import PairRecord

BINS = 24


def draw_histograms(records: Sequence[PairRecord]) -> Markup:
    """Four histograms over photos as one SVG element; photos without crack count in the first."""
    cracked = [record for record in records if record.instances]
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(2, 2).flat
    _linear(next(axes), "instances per photo", [record.instances for record in records])
    _logarithmic(next(axes), "crack area per photo, px", [r.crack_area for r in cracked])
    _linear(next(axes), "mean crack width, px", [record.mean_width for record in cracked])
    _logarithmic(next(axes), "coverage, percent of the photo", [r.coverage for r in cracked])
    text = io.StringIO()
    # A fixed salt and no date: the same data gives the same page.
    with mpl.rc_context({"svg.hashsalt": "cracks", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    svg = text.getvalue()
    return Markup(svg[svg.index("<svg") :])


def _linear(axes: Axes, label: str, values: Sequence[float]) -> None:
    top = max(values, default=1)
    whole = all(isinstance(value, int) for value in values) and top <= 2 * BINS
    edges = np.arange(-0.5, top + 1) if whole else np.linspace(0, max(top, 1e-9), BINS + 1)
    _draw(axes, label, values, edges)


def _logarithmic(axes: Axes, label: str, values: Sequence[float]) -> None:
    low, high = min(values, default=1), max(values, default=10)
    edges = np.geomspace(low / 1.05, high * 1.05, BINS + 1)
    _draw(axes, label, values, edges)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw(axes: Axes, label: str, values: Sequence[float], edges: np.ndarray) -> None:
    axes.hist(values, bins=edges.tolist(), color="#b3261e", edgecolor="white", linewidth=0.5)
    if len(values):
        middle = float(np.median(values))
        axes.axvline(middle, color="#333", linewidth=1, linestyle="--")
        label = f"{label} (median {middle:{'.0f' if middle >= 100 else '.3g'}})"
    axes.set_xlabel(label)
    axes.set_ylabel("photos")
    axes.spines[["top", "right"]].set_visible(False)
