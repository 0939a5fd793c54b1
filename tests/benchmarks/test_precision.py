"""Whether a faster precision costs too much."""

from __future__ import annotations

import math

import pytest

from benchmarks.precision import losses_over_limit, table

FP32 = {"walls": {"f1": 0.8, "AP50": 48.0, "avF1": 0.7}}


@pytest.mark.parametrize(
    ("changed", "over"),
    [
        ({}, []),
        ({"f1": 0.798, "AP50": 47.1, "avF1": 0.691}, []),
        ({"f1": 0.9, "AP50": 60.0, "avF1": 0.9}, []),
        ({"f1": 0.796}, ["walls f1 -0.0040"]),
        ({"AP50": 46.9, "avF1": 0.68}, ["walls AP50 -1.1000", "walls avF1 -0.0200"]),
        ({"f1": math.nan}, ["walls f1 +nan"]),
    ],
)
def test_limits(changed: dict[str, float], over: list[str]) -> None:
    assert losses_over_limit(FP32, {"walls": FP32["walls"] | changed}) == over


def test_a_set_without_cracks_has_no_average_precision() -> None:
    found = {"walls": FP32["walls"] | {"AP50": math.nan}}
    assert losses_over_limit(found, found) == []


def test_table() -> None:
    lines = table(FP32, {"walls": {"f1": 0.79, "AP50": 48.5, "avF1": 0.7}}).splitlines()
    assert lines[0] == "| data set | f1 | difference | AP50 | difference | avF1 | difference |"
    assert lines[2] == "| walls | 0.8000 | -0.0100 | 48.0000 | +0.5000 | 0.7000 | +0.0000 |"
