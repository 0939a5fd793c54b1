"""At the end of a training: curves.png and summary.md."""

from __future__ import annotations

import os

from detectron2.engine import HookBase

from .curves import draw_curves
from .history import read_metrics
from .summary import write_summary


class WriteReport(HookBase):
    """Comes after the writers, whose metrics.json it reads."""

    def after_train(self) -> None:
        """Write both files, also of a training that ended early or in an error."""
        trainer = self.trainer
        cfg, folder = trainer.cfg, trainer.cfg.OUTPUT_DIR
        rows = read_metrics(os.path.join(folder, "metrics.json"))
        if not rows:
            return
        outcome = {
            "iterations": min(trainer.iter + 1, trainer.max_iter),
            "photos": trainer.watch.photos,
            "parameters": sum(x.numel() for x in trainer.plain_model.parameters()),
            "bad": trainer.watch.bad,
            "best_iteration": trainer.progress.best_iteration,
            "ended_early": trainer.iter < trainer.max_iter,
        }
        draw_curves(rows, cfg.CRACK.BEST_METRIC, os.path.join(folder, "curves.png"))
        write_summary(cfg, rows, outcome, os.path.join(folder, "summary.md"))
