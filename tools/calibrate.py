#!/usr/bin/env python
"""Choose a checkpoint's thresholds and the interval of its percentage on labelled photos.

Names the photos as training does, e.g. DATASETS.TEST "('val.json',)": photos that the model was
not trained on, with crack-free ones among them. Thresholds given as config keys are kept. The
result lies beside the checkpoint as NAME.calibration.json and is read by prediction, server and
evaluation.
"""

import sys
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.calibration import calibration_path
from crack_data.config import load_predict_config
from crack_data.datasets import register_datasets_of
from crack_data.errors import CrackError, run_tool
from crack_data.evaluation.calibration import calibrate
from crack_data.storage import atomic_write


def main() -> None:
    """Calibrate and say what came of it."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config-file", metavar="YAML", help="the model's config (default: the shipped model)")
    add("--weights", metavar="PTH", help="checkpoint (default: the config's MODEL.WEIGHTS)")
    add("--group-by", default="", metavar="REGEX", help="photos alike in it count as one")
    add(
        "--false-alarms", type=float, default=0.02, metavar="SHARE",
        help="wanted share of crack-free photos that get a mask (default: 0.02)",
    )  # fmt: skip
    add("overrides", nargs=REMAINDER, metavar="KEY VALUE", help="config keys to change")
    given = parser.parse_args()
    if not 0.0 <= given.false_alarms < 1.0:
        raise CrackError(f"--false-alarms {given.false_alarms} is no share; give 0 to 1")
    cfg = load_predict_config(given.config_file, given.weights, given.overrides)
    register_datasets_of(cfg, ("TEST",))
    if not Path(cfg.MODEL.WEIGHTS).is_file():
        raise CrackError(f"{cfg.MODEL.WEIGHTS} is no local file; a calibration is of one")
    path = calibration_path(cfg.MODEL.WEIGHTS)
    with atomic_write(path) as file:  # opened now: a place that cannot be written fails at once
        found = calibrate(cfg, given.group_by, given.false_alarms)
        file.write(found.to_json())
    interval = "no interval: too few photos"
    if found.interval is not None:
        level, low, high = found.interval
        interval = (
            f"{100 * level:.0f} % interval from {low:+.2f} to {high:+.2f} x the map's own spread"
        )
    print(
        f"{path}: score threshold {found.score_threshold:.4f} ({100 * found.false_alarm_rate:.1f} "
        f"% of {found.crack_free_photos} crack-free photos get a mask; at most "
        f"{100 * found.false_alarm_bound:.1f} %, with 95 % confidence), pixel threshold "
        f"{found.threshold:.3f}, {interval}; from {found.photos} photos in {found.groups} groups"
    )


if __name__ == "__main__":
    run_tool(main)
