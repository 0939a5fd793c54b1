"""Photos to time on."""

from __future__ import annotations

from pathlib import Path

import cv2

from crack_data.storage import write_bytes
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
        write_bytes(path, data.tobytes())
        paths.append(str(path))
    return paths
