"""Checkpoints that are complete or not there, and weights that must fit the model."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import CrackError
from ..files import atomic_write
from ..weights import SafeCheckpointer


class CrackCheckpointer(SafeCheckpointer):
    """Detectron2's checkpointer, writing each file in one step."""

    def save(self, name: str, **extra: Any) -> None:
        """Save model and states as NAME.pth, and make it the one that --resume takes.

        Raises:
            CrackError: it cannot be written; the previous checkpoint is still the one to resume.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        state = {"model": self.model.state_dict()}
        for key, part in self.checkpointables.items():
            state[key] = part.state_dict()
        path = os.path.join(self.save_dir, f"{name}.pth")
        save_state({**state, **extra}, path)
        self.logger.info(f"Saved checkpoint {path}")
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record which file --resume takes."""
        _write(last_filename_basename.encode(), os.path.join(self.save_dir, "last_checkpoint"))


def save_state(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a dictionary with ``torch.save``, in one step.

    Raises:
        CrackError: the disk is full, or the folder cannot be written to.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    _write(buffer.getvalue(), path)


def _write(data: bytes, path: str | os.PathLike[str]) -> None:
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise CrackError(
            f"checkpoint {path} cannot be written ({error.strerror}); make room and go on from "
            "the previous one with --resume"
        ) from error


def remove_older(folder: str, iteration: int) -> None:
    """Remove the files model_XXXXXXX.pth before this iteration, but for the latest of them."""
    files = sorted(Path(folder).glob("model_[0-9]*.pth"))
    older = [file for file in files if file.name < f"model_{iteration:07d}.pth"]
    for file in older[:-1]:
        file.unlink(missing_ok=True)
