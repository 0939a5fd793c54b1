"""``python -m tests.serve.stand_ins [server flags]``: the real server around a model that is ill.

The environment variable ILLNESS says how: "hangs", "fails", or "slow" (a second for each photo).
"""

from __future__ import annotations

import os
import time

import numpy as np

from crack_data.errors import run_tool
from crack_data.inference.prediction import CrackPrediction
from serve import create_app
from serve.logs import configure_logging
from serve.server import run
from serve.settings import parse_settings


def predict_ill(image: np.ndarray, threshold: float | None, before_tile: object) -> CrackPrediction:
    """Find no crack, after a while or never."""
    illness = os.environ.get("ILLNESS", "")
    if illness == "fails":
        raise RuntimeError("secret of the inside")
    time.sleep({"hangs": 3600, "slow": 1}.get(illness, 0))
    return predict_nothing(image, threshold)


def predict_nothing(
    image: np.ndarray, threshold: float | None = None, before_tile: object = None
) -> CrackPrediction:
    """Find no crack, at once."""
    return CrackPrediction(
        instances=(),
        rejected=(),
        probability=np.zeros(image.shape[:2], np.uint8),
        threshold=0.5 if threshold is None else threshold,
        levels=np.zeros(256, int),
    )


def main() -> None:
    """Serve."""
    settings = parse_settings()
    configure_logging(settings.log_level)
    run(create_app(settings, predict_ill))


if __name__ == "__main__":
    run_tool(main)
