"""Photos as files of every kind and depth."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import tifffile
from PIL import Image


def smooth_photo() -> np.ndarray:
    """A photo whose corners differ, (40, 60, 3) uint8."""
    y, x = np.mgrid[:40, :60]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=2).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(samples: np.ndarray, **options: object) -> bytes:
    """A TIFF of any sample type; (H, W, 3) is RGB."""
    kind = {"photometric": "rgb"} if samples.ndim == 3 else {}
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **{**kind, **options})
    return stream.getvalue()


def planar(samples: np.ndarray) -> bytes:
    """A TIFF that keeps one colour plane after the other."""
    return tiff(np.moveaxis(samples, 2, 0), photometric="rgb", planarconfig="separate")


def by_opencv(suffix: str) -> Callable[[np.ndarray], bytes]:
    def encode_samples(samples: np.ndarray) -> bytes:
        return cv2.imencode(suffix, samples[..., ::-1] if samples.ndim == 3 else samples)[
            1
        ].tobytes()

    return encode_samples


def bgr(twin: np.ndarray) -> np.ndarray:
    return twin[:, :, ::-1] if twin.ndim == 3 else np.repeat(twin[:, :, None], 3, 2)


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}
