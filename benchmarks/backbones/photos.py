"""Photos to time on."""

from __future__ import annotations

from pathlib import Path

import cv2

from crack_data.storage import atomic_write
from crack_data.synthetic import draw_photo


def drawn_photos(folder: Path) -> list[str]:
    """Three drawn photos of 480x320 px as JPEG, for machines without real ones.

    Args:
        folder: where they are written.

    Returns:
        their paths.
    """
    paths = []
    for index in range(3):
        path = folder / f"drawn_{index}.jpg"
        _, data = cv2.imencode(".jpg", draw_photo(index).image)
        with atomic_write(path) as file:
            file.write(data.tobytes())
        paths.append(str(path))
    return paths
