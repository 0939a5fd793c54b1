"""Tables in Markdown, for summaries, reports and model cards."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_lines(
    head: Sequence[str], body: Sequence[Sequence[str]], numbers: bool = False
) -> str:
    """A table, without a line break at its end.

    Args:
        head: headings of the columns.
        body: rows of cells.
        numbers: align all columns but the first to the right.
    """
    rest = "---:" if numbers else "---"
    rule = ["---", *[rest] * (len(head) - 1)]
    return "\n".join(_line(row) for row in (head, rule, *body))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
