"""Build the predictor that a server's settings ask for."""

from __future__ import annotations

import os

import numpy as np

from .settings import Settings
from .worker import Predictor


def build_predictor(settings: Settings) -> Predictor:
    """Load the model, and run it once so that the first photo does not pay for the set-up.

    Detectron2 is imported here, in the inference thread, so that the port opens at once.

    Raises:
        CrackError: the config or the checkpoint is missing or does not fit.
    """
    # Threads that spin while they wait for each other take seconds instead of milliseconds as soon
    # as other processes want the same cores. OpenMP reads this when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from crack_data.inference.defaults import load_predict_config
    from crack_data.inference.predictor import CrackPredictor

    config, weights = settings.config_file or None, settings.weights or None
    predictor = CrackPredictor(load_predict_config(config, weights))
    predictor(np.zeros((320, 480, 3), np.uint8))
    return predictor
