"""Masks of more than 8 bits are shares of what their set's highest value stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crack_data.convert.mask_files import MaskImage, read_mask

from .test_mask_values import SHAPE, _choose, _crack, _mask


@pytest.mark.parametrize("top", [1.0, 65535])
def test_what_is_faint_in_a_mask_of_shares_is_no_crack(top: float, tmp_path: Path) -> None:
    """A photo without crack, in a set of probabilities, whose highest is a tenth of the set's."""
    smooth = np.hypot(*np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j])
    shares = [np.clip(1.2 - smooth, 0, 1), np.clip(0.1 - smooth / 10, 0, 1), smooth * 0]
    masks = []
    for number, share in enumerate(shares):
        path = tmp_path / f"{number}.tif"
        values = (top * share).astype(np.float32 if top == 1 else np.uint16)
        Image.fromarray(values).save(path)
        masks.append(read_mask(path))
    reading = _choose(masks)
    for mask, share in zip(masks, shares, strict=True):
        assert np.mean(_crack(reading, mask) != (share > 0.5)) < 0.01
    two_levels = MaskImage(_mask((300, 20, 4), dtype=np.int32), deep=True)
    plain = _mask((255, 20, 4))
    reading = _choose([*masks, two_levels, plain])
    assert np.array_equal(_crack(reading, two_levels), two_levels.values > 0)
    assert np.array_equal(_crack(reading, plain), plain > 0)
