from __future__ import annotations

import csv
import io
import os

import numpy as np
import pytest

from crack_data.evaluation.instance_metrics import count_instances
from crack_data.evaluation.metrics import count_photo
from crack_data.evaluation.tables import markdown_lines, markdown_table, per_photo_csv


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_intervals_units_and_gaps() -> None:
    crack = {
        "f1": 0.8346,
        "f1_low": 0.81,
        "f1_high": 0.85,
        "f1_ods": 0.84,
        "ods_threshold": 0.4569,
        "coverage_mae": 0.567,
        "false_alarm_rate": 0.0588,
        "false_alarm_rate_low": 0.011,
        "false_alarm_rate_high": 0.123,
    }
    instances = {"avF1": 0.5, "AP50_linked": 55.55}
    first = {"crack": crack, "segm": {"AP50": 41.26}, "instances": instances}
    table = markdown_table({"val|a": first, "b": {}})
    header, rule, first, second = table.splitlines()
    row = dict(zip(cells(header), cells(first), strict=True))
    assert row["test set"] == "val\\|a"
    assert row["F1"] == "0.835 (0.810 to 0.850)"
    assert (row["F1, best threshold (ODS)"], row["at"]) == ("0.840", "0.46")
    assert row["coverage error, points"] == "0.57"
    assert row["false alarms, %"] == "5.9 (1.1 to 12.3)"
    assert (row["mask AP50"], row["linked"], row["avF1"]) == ("41.3", "55.5", "0.500")
    assert row["recall"] == "–"
    assert set(cells(second)[1:]) == {"–"}
    assert len(cells(rule)) == len(cells(header))


def test_one_row_per_photo_with_its_scores() -> None:
    truth = np.zeros((10, 20), dtype=bool)
    mask = truth.copy()
    truth[4, :10] = True
    mask[4, 5:13] = True
    blank = np.zeros_like(truth)
    photos = [count_photo(x, y, y.astype(np.uint8)) for x, y in ((truth, mask), (blank, blank))]
    size = {"height": 10, "width": 20}
    names = ("Straße, 1.jpg", os.fsdecode(b"gr\xfcn.jpg"))
    records = [{"file_name": name, **size} for name in names]
    instances = [count_instances([], [])] * 2
    text = per_photo_csv(records, photos, instances).decode()
    first, second = csv.DictReader(io.StringIO(text))
    assert first["file_name"] == "Straße, 1.jpg"
    values = {name: float(value) for name, value in first.items() if name != "file_name"}
    assert (values["height"], values["width"]) == (10, 20)
    assert values["true_percent"] == 5
    assert values["coverage_error"] == pytest.approx(-1)
    assert values["precision"] == pytest.approx(5 / 8)
    assert values["recall"] == pytest.approx(5 / 10)
    assert values["precision_2px"] == pytest.approx(7 / 8)
    assert values["recall_2px"] == pytest.approx(7 / 10)
    assert (values["true_instances"], values["false_merges"]) == (0, 0)
    assert float(second["predicted_percent"]) == 0
    assert second["file_name"] == "gr\\udcfcn.jpg"


def test_a_table() -> None:
    assert markdown_lines(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_numbers_stand_at_the_right() -> None:
    assert markdown_lines(["a", "b"], [], right=True) == "| a | b |\n| --- | ---: |"


def test_a_bar_in_a_cell_does_not_split_it() -> None:
    assert markdown_lines(["a"], [["x|y"]]).endswith("| x\\|y |")
