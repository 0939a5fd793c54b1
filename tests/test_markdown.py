"""Markdown tables."""

from __future__ import annotations

from crack_data.markdown import markdown_lines


def test_a_table() -> None:
    assert markdown_lines(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_numbers_stand_at_the_right() -> None:
    assert markdown_lines(["a", "b"], [], numbers=True) == "| a | b |\n| --- | ---: |"


def test_a_bar_in_a_cell_does_not_split_it() -> None:
    assert markdown_lines(["a"], [["x|y"]]).endswith("| x\\|y |")
