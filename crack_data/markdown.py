"""Tables in Markdown, for summaries, reports and model cards."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_lines(
    head: Sequence[str], body: Sequence[Sequence[str]], numbers: bool = False
) -> str:
    """A table without a line break at its end; ``numbers``: all columns but the first at right."""
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    rows = ([cell.replace("|", "\\|") for cell in row] for row in (head, rule, *body))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
