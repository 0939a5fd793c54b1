from __future__ import annotations

from crack_data.evaluation.table import markdown_table


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
    table = markdown_table({"val|a": {"crack": crack, "segm": {"AP50": 41.26}}, "b": {}})
    header, rule, first, second = table.splitlines()
    row = dict(zip(cells(header), cells(first), strict=True))
    assert row["test set"] == "val\\|a"
    assert row["F1"] == "0.835 (0.810 to 0.850)"
    assert row["F1, best threshold (ODS)"] == "0.840 at 0.46"
    assert row["coverage error, points"] == "0.57"
    assert row["false alarms, %"] == "5.9 (1.1 to 12.3)"
    assert row["segm AP50"] == "41.3"
    assert row["recall"] == "–"
    assert set(cells(second)[1:]) == {"–"}
    assert len(cells(rule)) == len(cells(header))
