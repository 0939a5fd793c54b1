from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from crack_data.evaluation.per_photo import per_photo_csv
from crack_data.evaluation.pixel_metrics import count_photo


def test_one_row_per_photo_with_its_scores() -> None:
    truth = np.zeros((10, 20), dtype=bool)
    mask = truth.copy()
    truth[4, :10] = True
    mask[4, 5:13] = True
    blank = np.zeros_like(truth)
    crack_map = np.where(truth, 200, 100 * mask).astype(np.uint8)
    crack_map[4, 0] = 50  # its best threshold misses one pixel and has no false one
    photos = [
        count_photo(truth, mask, crack_map),
        count_photo(blank, blank, blank.astype(np.uint8)),
    ]
    text = per_photo_csv(["Straße, 1.jpg", "none.jpg"], photos).decode()
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
    assert values["f1_ois"] == pytest.approx(18 / 19, abs=1e-5)
    assert values["ois_threshold"] == pytest.approx(199.5 / 255, abs=1e-5)
    assert float(second["predicted_percent"]) == 0
