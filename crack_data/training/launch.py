"""What ``tools/train_net.py`` does in each process."""

import argparse
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.engine import default_argument_parser, default_setup, launch
from torch.multiprocessing import ProcessRaisedException

from .. import modeling  # noqa: F401 - registers the models
from ..config import load_config, value_at
from ..datasets import read_photo_of, register_datasets_of
from ..errors import DISK_ERRORS, CrackError, as_crack_error
from ..evaluation.evaluator import evaluate_datasets, quality_names
from ..inference.predictor import CrackPredictor, check_masks, settle_device
from .trainer import CrackTrainer

logger = logging.getLogger("detectron2.crack_data.training")


def parse_args() -> argparse.Namespace:
    """Read the command line: Detectron2's, and --image-root."""
    parser = default_argument_parser()
    parser.add_argument("--image-root", default="", metavar="DIR", help="CRACK.IMAGE_ROOT")
    args = parser.parse_args()
    if args.image_root:
        args.opts = ["CRACK.IMAGE_ROOT", args.image_root, *args.opts]
    return args


def start(args: argparse.Namespace) -> None:
    """`run` in as many processes as the command line says: --num-gpus is per machine."""
    if not 0 <= args.machine_rank < args.num_machines:
        ranks = f"--num-machines {args.num_machines} has ranks from 0 to {args.num_machines - 1}"
        raise CrackError(f"--machine-rank {args.machine_rank}: {ranks}")
    if args.num_machines > 1 and args.dist_url == "auto":
        raise CrackError(f"--dist-url {args.dist_url}: name machine 0 and a port, tcp://HOST:PORT")
    try:
        launch(run, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, (args,))
    except ProcessRaisedException as error:  # its message is the process's traceback
        _, *ours = re.split(r"\ncrack_data\.[\w.]+Error: ", str(error))
        if not ours or "\nTraceback (" in ours[-1]:
            raise
        raise CrackError(ours[-1].strip()) from error


def run(args: argparse.Namespace) -> None:
    """Train, or with ``args.eval_only`` evaluate MODEL.WEIGHTS; a `CrackError` for bad input."""
    if not args.config_file:
        raise CrackError("name a config: --config-file configs/crack_mobilenet.yaml")
    cfg = load_config(args.config_file, args.opts)
    settle_device(cfg)
    check_masks(cfg)
    if args.eval_only and args.resume:
        raise CrackError("--eval-only evaluates MODEL.WEIGHTS, and --resume goes on: give one")
    needed = ("DATASETS.TEST", "MODEL.WEIGHTS") if args.eval_only else ("DATASETS.TRAIN",)
    for key in ("OUTPUT_DIR", *needed):
        if not value_at(cfg, key):
            raise CrackError(f"{key} is empty; set it in the config or as {key} VALUE")
    register_datasets_of(cfg, ("TEST",) if args.eval_only else ("TRAIN", "TEST"))
    metric = cfg.CRACK.BEST_METRIC
    tests = cfg.DATASETS.TEST
    places = ["", *(f"{name}/" for name in tests if len(tests) > 1)]
    known = [place + name for name in quality_names() for place in places]
    if tests and metric not in known:
        raise CrackError(
            f"CRACK.BEST_METRIC {metric} is no metric of which more is better; use crack/f1, "
            "segm/AP50, instances/avF1, or another such one of docs/evaluation.md"
        )
    if not args.eval_only:
        adapt_to_random_weights(cfg)
    cfg.freeze()
    with outside_errors(cfg.OUTPUT_DIR):
        # A full disk must not bury its one sentence under a traceback for each line logged.
        logging.raiseExceptions = False
        default_setup(cfg, args)
        for key in unread_keys(cfg):
            logger.warning(f"{key} is not read here; see CRACK and SOLVER in crack_data/config.py")
        if args.eval_only:
            predictor = CrackPredictor(cfg)
            evaluate_datasets(predictor, predictor.cfg)
            return
        for name in cfg.DATASETS.TEST:
            logger.info(f"Reading the photos of {name} once: an evaluation needs all of them")
            for record in DatasetCatalog.get(name):
                read_photo_of(record)
        with as_crack_error("no training can be built from the config"):
            trainer = CrackTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()


def unread_keys(cfg: CfgNode) -> list[str]:
    """The keys of Detectron2 that are set and have no effect: this project has others."""
    keys = [
        "INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "INPUT.CROP.ENABLED", "INPUT.CROP.SIZE",
        "INPUT.RANDOM_FLIP", "DATALOADER.SAMPLER_TRAIN", "DATALOADER.REPEAT_THRESHOLD",
        "DATALOADER.ASPECT_RATIO_GROUPING", "TEST.AUG.ENABLED", "TEST.PRECISE_BN.ENABLED",
        "TEST.EXPECTED_RESULTS", "VIS_PERIOD",
    ]  # fmt: skip
    keys += ["SOLVER.AMP.ENABLED"] if cfg.MODEL.DEVICE == "cpu" else []
    default = get_cfg()
    return [x for x in keys if value_at(cfg, x) != value_at(default, x)]


def adapt_to_random_weights(cfg: CfgNode) -> None:
    """Let all layers learn, BatchNorm's statistics too, where no pretrained weights are loaded."""
    # Without statistics of its own a frozen BatchNorm lets activations grow until the loss is NaN.
    if not cfg.MODEL.WEIGHTS and not cfg.MODEL.BACKBONE.WEIGHTS:
        cfg.MODEL.BACKBONE.FREEZE_AT = 0
        cfg.CRACK.FREEZE_BN_STATS = False
        if cfg.MODEL.RESNETS.NORM == "FrozenBN":
            cfg.MODEL.RESNETS.NORM = "BN"


@contextmanager
def outside_errors(output_dir: str) -> Iterator[None]:
    """Turn a full disk and data-loading processes that died into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise CrackError(
            f"OUTPUT_DIR {output_dir} cannot be written to ({error.strerror or error}); make room "
            "or name another folder; what was complete is still there, and --resume goes on from it"
        ) from error
    except RuntimeError as error:
        # PyTorch raises it wherever the program is when such a process dies.
        if "DataLoader worker (pid" not in str(error):
            raise
        raise CrackError(
            "a process that loads photos was ended from outside, probably for want of memory; give "
            "more (in Docker --memory and --shm-size), or set DATALOADER.NUM_WORKERS 0, and go on "
            "with --resume"
        ) from error
