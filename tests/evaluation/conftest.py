"""What the tests of evaluation share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from tests.evaluation.drawn_set import NAME, register


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    """The registered name of the drawn set, whose photos lie in ``tmp_path``."""
    register(tmp_path)
    yield NAME
    DatasetCatalog.remove(NAME)
