"""Results of one or more test sets as a Markdown table, for model cards and summaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..markdown import markdown_lines

Metrics = Mapping[str, float]
ABSENT = "–"


def markdown_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per test set, 95 % intervals in parentheses, a dash for what a set does not define.

    Args:
        results: test set → its results as evaluators return them: {"crack": {...}} and, from
            COCOEvaluator, "segm" with AP50 in percent.

    Returns:
        Markdown, ending in a line break.
    """
    body = [
        [name, *(column(result) for column in _COLUMNS.values())]
        for name, result in results.items()
    ]
    return markdown_lines(["test set", *_COLUMNS], body, numbers=True) + "\n"


def _crack(name: str, digits: int = 3, factor: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    def cell(result: Mapping[str, Any]) -> str:
        return _with_interval(result.get("crack", {}), name, digits, factor)

    return cell


def _with_interval(metrics: Metrics, name: str, digits: int, factor: float) -> str:
    if name not in metrics:
        return ABSENT
    text = f"{factor * metrics[name]:.{digits}f}"
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if low is None or high is None:
        return text
    return f"{text} ({factor * low:.{digits}f} to {factor * high:.{digits}f})"


def _ods(result: Mapping[str, Any]) -> str:
    text = _crack("f1_ods")(result)
    return text if text == ABSENT else f"{text} at {result['crack']['ods_threshold']:.2f}"


def _ap50(result: Mapping[str, Any]) -> str:
    return f"{result['segm']['AP50']:.1f}" if "segm" in result else ABSENT


_COLUMNS = {
    "F1": _crack("f1"),
    "precision": _crack("precision"),
    "recall": _crack("recall"),
    "F1, best threshold (ODS)": _ods,
    "F1, per photo (OIS)": _crack("f1_ois"),
    "F1, 2 px": _crack("f1_2px"),
    "IoU": _crack("iou"),
    "centreline IoU, 4 px": _crack("centreline_iou_4px"),
    "coverage error, points": _crack("coverage_mae", 2),
    "coverage bias, points": _crack("coverage_bias", 2),
    "false alarms, %": _crack("false_alarm_rate", 1, 100),
    "segm AP50": _ap50,
}
