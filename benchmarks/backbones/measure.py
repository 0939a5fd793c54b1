"""Time models in turns on the same photos, so that their ratios hold on a busy machine."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import torch

from crack_data.inference.predictor import CrackPredictor
from crack_data.modeling.compiled import choose_precision
from crack_data.photos import read_photo

from .rows import Row
from .size import count_gflops, count_parameters
from .stages import stage_times

_MIB = 2.0**20


@dataclass
class Result:
    """What was measured of one row. Times in ms, sizes in MiB."""

    name: str
    path: str
    precision: str
    trained: bool
    parameters: dict[str, int]
    gflops: dict[str, float]
    checkpoint_mib: float
    build_s: float
    memory_mib: float
    times: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def median(self) -> float:
        """Milliseconds from decoded photo to masks, the middle one."""
        return float(np.median(self.times))

    @property
    def p90(self) -> float:
        """Milliseconds that nine in ten photos stay below."""
        return float(np.percentile(self.times, 90))

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain numbers."""
        return {
            **{k: v for k, v in vars(self).items() if k not in ("times", "stages")},
            "median_ms": self.median,
            "p90_ms": self.p90,
            "n": len(self.times),
            "photos_per_second": 1000 / self.median,
            "stages_ms": {k: float(np.median(v)) for k, v in self.stages.items()},
        }


def measure(rows: Sequence[Row], photos: Sequence[str], rounds: int) -> list[Result]:
    """Build all models, warm them up, then time them photo by photo, in turns.

    Args:
        rows: what to compare.
        photos: paths.
        rounds: how often each model sees each photo.

    Raises:
        CrackError: a photo or a checkpoint cannot be used.
    """
    images = [read_photo(path) for path in photos]
    predictors, results = [], []
    for row in rows:
        predictor, result = _build(row, images[0])
        predictors.append(predictor)
        results.append(result)
    for predictor in predictors:
        # Building has shown it the first.
        for image in {x.shape: x for x in images if x.shape != images[0].shape}.values():
            predictor(image)
    for turn in range(rounds * len(images)):
        chosen = turn % len(images)
        for predictor, result in zip(predictors, results, strict=True):
            _time_one(predictor, photos[chosen], images[chosen], result)
    return results


def _build(row: Row, image: np.ndarray) -> tuple[CrackPredictor, Result]:
    started = time.perf_counter()
    with PeakMemory() as memory:
        predictor = CrackPredictor(row.cfg)
        predictor(image)
    built = time.perf_counter() - started
    plain = row.cfg.clone()
    plain.CRACK.INFERENCE.FAST = "off"  # compiled layers cannot be counted
    model = CrackPredictor(plain).model
    result = Result(
        name=row.name,
        path=row.path,
        precision=choose_precision(row.cfg.CRACK.INFERENCE.PRECISION)
        if row.path == "fast"
        else "fp32",
        trained=row.trained,
        parameters=count_parameters(model),
        gflops=count_gflops(model, model_input(predictor, image)),
        checkpoint_mib=os.path.getsize(row.cfg.MODEL.WEIGHTS) / _MIB,
        build_s=built,
        memory_mib=memory.grown / _MIB,
    )
    return predictor, result


def model_input(predictor: CrackPredictor, image: np.ndarray) -> dict[str, Any]:
    """The photo as the model takes it."""
    resized = predictor.predictor.aug.get_transform(image).apply_image(image)
    return {"image": torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))}


def _time_one(predictor: CrackPredictor, path: str, image: np.ndarray, result: Result) -> None:
    result.stages["read"].append(_milliseconds(lambda: read_photo(path)))
    resize = _milliseconds(lambda: model_input(predictor, image))
    with stage_times(predictor.model) as stages:
        total = _milliseconds(lambda: predictor(image))
    result.times.append(total)
    for stage, spent in [("resize", resize), *stages.items()]:
        result.stages[stage].append(spent)
    result.stages["masks and the rest"].append(total - resize - sum(stages.values()))


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


class PeakMemory:
    """How far the resident memory of this process rises while it lasts, bytes."""

    def __enter__(self) -> PeakMemory:
        self.process = psutil.Process()
        self.before = self.highest = self.process.memory_info().rss
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.watcher.join()

    def _watch(self) -> None:
        while not self.done.wait(0.01):
            self.highest = max(self.highest, self.process.memory_info().rss)

    @property
    def grown(self) -> int:
        """Bytes above the start."""
        return self.highest - self.before
