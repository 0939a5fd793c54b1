"""What calibration has chosen for a checkpoint, stored beside it and read for prediction."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from yacs.config import CfgNode  # the class below Detectron2's, whose import would bring torch

from . import storage
from .errors import CrackError, as_crack_error

# Where neither the config nor a calibration says otherwise.
DEFAULT_SCORE_THRESHOLD = 0.3
DEFAULT_THRESHOLD = 0.5
# A photo without any doubtful pixel is not known to the last digit: points of the percentage.
_LEAST_SPREAD = 0.02


class Interval(NamedTuple):
    """A conformal interval: predicted percentage + low x spread to + high x spread."""

    level: float  # share of photos whose true percentage it holds
    low: float  # quantile of (true - predicted percentage) / spread
    high: float

    def around(self, percent: float, photo_spread: float) -> tuple[float, float]:
        """The interval for one photo, within [0, 100] and around its percentage."""
        low = min(percent, max(0.0, percent + self.low * photo_spread))
        high = max(percent, min(100.0, percent + self.high * photo_spread))
        return low, high


@dataclass(frozen=True)
class Calibration:
    """Thresholds and interval of one checkpoint."""

    weights: str  # SHA-256 of the checkpoint
    score_threshold: float  # instances scored lower are not drawn
    threshold: float  # a pixel is crack where its probability exceeds this
    false_alarm_rate: float  # share of the crack-free photos that got a mask
    false_alarm_bound: float  # upper 95 % bound of that rate
    crack_free_photos: int  # that it was chosen on, like the next two
    photos: int
    groups: int
    interval: Interval | None  # of the percentage, None where there were too few photos

    def to_json(self) -> bytes:
        """It as a JSON file's content."""
        content = asdict(self) | {"interval": self.interval and self.interval._asdict()}
        return json.dumps(content, indent=1).encode() + b"\n"


def spread(levels: np.ndarray) -> float:
    """How unsure the crack map is of a photo's percentage, in points, by its (256,) `levels`."""
    # The expected share of wrong pixels. Of independent pixels it would be the sum's standard
    # deviation, which is far too small: neighbours err together.
    p = np.arange(256) / 255.0
    return _LEAST_SPREAD + 100.0 * float(levels @ np.minimum(p, 1 - p)) / max(int(levels.sum()), 1)


def calibration_path(weights: str) -> Path:
    """Where the calibration of a checkpoint lies: NAME.pth → NAME.calibration.json."""
    return Path(weights).with_suffix(".calibration.json")


def read_calibration(weights: str) -> Calibration | None:
    """The calibration of a checkpoint, if any; a `CrackError` where it is damaged or another's."""
    path = calibration_path(weights)
    if not path.is_file():
        return None
    with as_crack_error(f"calibration {path} is damaged; calibrate again or remove it"):
        content: dict[str, Any] = json.loads(storage.read_bytes(str(path)))
        if content["interval"] is not None:
            content["interval"] = Interval(**content["interval"])
        found = Calibration(**content)
        shares = (found.score_threshold, found.threshold, found.false_alarm_bound)
        if not all(0.0 <= x <= 1.0 for x in (*shares, *(found.interval or ())[:1])):
            raise ValueError("a threshold or share lies outside 0 to 1")
    if found.weights != storage.fingerprint(weights)["sha256"]:
        raise CrackError(
            f"calibration {path} is of another checkpoint than {weights}, which may have been "
            "trained on; calibrate again or remove it"
        )
    return found


def settle_thresholds(cfg: CfgNode, weights: str) -> Calibration | None:
    """Give MODEL.CRACK_MAP's two thresholds their values where the config leaves them at -1.

    They are those of the calibration of ``weights`` (a checkpoint, or "" for a model of none), else
    the defaults above. Returned is the calibration, None where the config has other thresholds.
    """
    keys = cfg.MODEL.CRACK_MAP
    # Not read where the config has both, so that a faulty one can be replaced.
    is_needed = weights and min(keys.SCORE_THRESHOLD, keys.THRESHOLD) < 0
    found = read_calibration(weights) if is_needed else None
    if keys.SCORE_THRESHOLD < 0:
        keys.SCORE_THRESHOLD = found.score_threshold if found else DEFAULT_SCORE_THRESHOLD
    if keys.THRESHOLD < 0:
        keys.THRESHOLD = found.threshold if found else DEFAULT_THRESHOLD
    if found and (found.score_threshold, found.threshold) == (keys.SCORE_THRESHOLD, keys.THRESHOLD):
        return found
    return None
