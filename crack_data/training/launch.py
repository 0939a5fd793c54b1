"""What ``tools/train_net.py`` does in each process."""

from __future__ import annotations

import argparse
import logging

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch
from torch.multiprocessing import ProcessRaisedException

from .. import modeling  # noqa: F401 - registers the models
from ..config import load_config
from ..datasets import register_datasets_of
from ..errors import CrackError
from ..evaluation import evaluate_datasets
from ..inference.predictor import CrackPredictor
from .loop import unwritable
from .trainer import CrackTrainer


def start(args: argparse.Namespace) -> None:
    """`run` in as many processes as the command line says: --num-gpus is per machine.

    Without a GPU the processes compute on the CPU and talk through gloo.

    Raises:
        CrackError: see `run`.
    """
    try:
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessRaisedException as error:
        if "CrackError: " in str(error):
            raise CrackError(message_of_worker_error(error)) from error
        raise


def run(args: argparse.Namespace) -> None:
    """Train, or with ``args.eval_only`` evaluate MODEL.WEIGHTS.

    Args:
        args: of Detectron2's ``default_argument_parser``.

    Raises:
        CrackError: see `crack_data.config.load_config` and `CrackTrainer`.
    """
    cfg = setup(args)
    try:
        if args.eval_only:
            evaluate(cfg)
        else:
            trainer = CrackTrainer(cfg)
            trainer.resume_or_load(resume=args.resume)
            trainer.train()
    except CrackError as error:
        raise CrackError(message_of_worker_error(error)) from error


def evaluate(cfg: CfgNode) -> None:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST, which prints the metrics.

    Raises:
        CrackError: the weights do not fit the config, or there is nothing to evaluate on.
    """
    if not cfg.DATASETS.TEST:
        raise CrackError("DATASETS.TEST is empty; name a data set to evaluate on")
    if not cfg.MODEL.WEIGHTS:
        raise CrackError("MODEL.WEIGHTS is empty; name a checkpoint to evaluate")
    evaluate_datasets(CrackPredictor(cfg), cfg)


def setup(args: argparse.Namespace) -> CfgNode:
    """Read the config, check its data sets, start the log.

    Raises:
        CrackError: the config or a data set cannot be used, or OUTPUT_DIR cannot be written to.
    """
    cfg = load_config(args.config_file, args.opts)
    if not args.eval_only and not cfg.DATASETS.TRAIN:
        raise CrackError("DATASETS.TRAIN is empty; name a data set to train on")
    register_datasets_of(cfg, ("TEST",) if args.eval_only else ("TRAIN", "TEST"))
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    changed = [] if args.eval_only else adapt_to_random_weights(cfg)
    cfg.freeze()
    # A full disk must not bury the one sentence about it under a traceback for each line logged.
    logging.raiseExceptions = False
    try:
        default_setup(cfg, args)
    except OSError as error:
        raise unwritable(cfg.OUTPUT_DIR, error) from error
    if changed:
        logging.getLogger("detectron2.crack_data.training").info(
            f"Training starts from random weights, hence {', '.join(changed)}"
        )
    return cfg


def adapt_to_random_weights(cfg: CfgNode) -> list[str]:
    """Let all layers learn, BatchNorm's statistics too, where no pretrained weights are loaded.

    Without statistics of its own a frozen BatchNorm lets activations grow until the loss is NaN.

    Args:
        cfg: changed in place.

    Returns:
        what was changed, as KEY VALUE.
    """
    if cfg.MODEL.WEIGHTS or cfg.MODEL.BACKBONE.WEIGHTS:
        return []
    wanted: list[tuple[str, int | str]] = [
        ("MODEL.BACKBONE.FREEZE_AT", 0),
        ("CRACK.FREEZE_BN_STATS", False),
    ]
    if "resnet" in cfg.MODEL.BACKBONE.NAME and cfg.MODEL.RESNETS.NORM == "FrozenBN":
        wanted.append(("MODEL.RESNETS.NORM", "BN"))
    before = cfg.clone()
    cfg.merge_from_list([x for pair in wanted for x in pair])
    return [f"{key} {value}" for key, value in wanted if _value(before, key) != value]


def _value(cfg: CfgNode, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def message_of_worker_error(error: Exception) -> str:
    """The message of a `CrackError` that another process has wrapped in its traceback."""
    line = (str(error).strip().splitlines() or [""])[-1]
    return line.split("CrackError: ")[-1]
