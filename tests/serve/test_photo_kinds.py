"""Photos of every kind that cameras and editors write come back upright and in their size."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import requests
from PIL import Image

SIZE = (48, 64)  # height, width


def _file(image: Image.Image, format_name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def _ramp() -> np.ndarray:
    return np.tile(np.linspace(0, 255, SIZE[1]).astype(np.uint8), (SIZE[0], 1))


def _rgb() -> Image.Image:
    return Image.fromarray(np.dstack([_ramp(), _ramp()[::-1], 255 - _ramp()]))


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, to be turned a quarter clockwise
    return _file(_rgb().rotate(90, expand=True), "JPEG", exif=exif)


def _animated() -> bytes:
    frames = [Image.fromarray(np.full(SIZE, grey, np.uint8)) for grey in (90, 160)]
    return _file(frames[0], "GIF", save_all=True, append_images=frames[1:])


KINDS = {
    "grey 16-bit PNG": lambda: _file(Image.fromarray(_ramp().astype(np.uint16) * 257), "PNG"),
    "CMYK JPEG": lambda: _file(_rgb().convert("CMYK"), "JPEG"),
    "grey and alpha PNG": lambda: _file(_rgb().convert("LA"), "PNG"),
    "palette PNG": lambda: _file(_rgb().convert("P"), "PNG"),
    "bilevel TIFF": lambda: _file(_rgb().convert("1"), "TIFF"),
    "WebP": lambda: _file(_rgb(), "WEBP"),
    "turned JPEG": _turned,
    "animated GIF": _animated,
}


@pytest.mark.parametrize("kind", KINDS)
def test_comes_back_upright_in_its_size(url: str, kind: str) -> None:
    response = requests.post(
        url + "/predict?threshold=1", files={"image": KINDS[kind]()}, timeout=60
    )
    assert response.status_code == 200, response.text
    drawn = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (*SIZE, 3)
    # At threshold 1 nothing is drawn: what comes back is the decoded photo.
    if kind == "animated GIF":
        assert abs(int(drawn[0, 0, 0]) - 90) < 8
    elif kind == "turned JPEG":
        assert drawn[24, 60, 2] > drawn[24, 4, 2] + 150  # red grows to the right, as in _rgb
