"""Folders of photos and masks for the tests of conversion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from crack_data.convert.worker import ConversionOptions

HEIGHT, WIDTH = 90, 120


def write_pair(root: Path, name: str, seed: int, cracks: int = 2) -> None:
    """A grainy photo with dark cracks, and its mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for i in range(cracks):
        y = 15 + 60 * i // max(cracks, 1)
        cv2.line(mask, (0, y), (int(rng.integers(60, 120)), y + int(rng.integers(8))), 255, 2)
    grey = rng.normal(150, 10, mask.shape) - 0.3 * mask
    photo = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(root / "images" / f"{name}.jpg", quality=92)
    Image.fromarray(mask).save(root / "masks" / f"{name}_mask.png")


def options_of(root: Path, **changes: Any) -> ConversionOptions:
    options = ConversionOptions(root / "images", root / "masks", root / "crack.json")
    return replace(options, **changes)


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))
