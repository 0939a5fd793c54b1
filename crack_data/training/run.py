"""What ``tools/train_net.py`` does in each process."""

from __future__ import annotations

import argparse

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch
from torch.multiprocessing import ProcessRaisedException

from .. import modeling  # noqa: F401 - registers the models
from ..config import load_config
from ..datasets import register_datasets_of
from ..errors import CrackError
from ..weights import load_weights
from .evaluating import last_sentence
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
            raise CrackError(last_sentence(error)) from error
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
        raise CrackError(last_sentence(error)) from error


def evaluate(cfg: CfgNode) -> None:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST, which prints the metrics.

    Raises:
        CrackError: the weights do not fit the config, or there is nothing to evaluate on.
    """
    if not cfg.DATASETS.TEST:
        raise CrackError("DATASETS.TEST is empty; name a data set to evaluate on")
    model = CrackTrainer.build_model(cfg)
    load_weights(model, cfg.MODEL.WEIGHTS)
    CrackTrainer.test(cfg, model)


def setup(args: argparse.Namespace) -> CfgNode:
    """Read the config, register its data sets, start the log."""
    cfg = load_config(args.config_file, args.opts)
    register_datasets_of(cfg, ("TEST",) if args.eval_only else ("TRAIN", "TEST"))
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    default_setup(cfg, args)
    return cfg
