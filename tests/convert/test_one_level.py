"""Masks of one level, or of faint ones, are read by the levels of their set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crack_data.convert.cleaning import PRESETS, binarize, find_cracks
from crack_data.convert.mask_files import MaskImage

from .test_mask_values import _choose, _mask


@pytest.mark.parametrize("levels", [(0, 1), (0, 100), (200, 255), (0, 255)])
@pytest.mark.parametrize("dark", [False, True])
def test_a_mask_of_one_level_is_read_by_the_set_s_two(levels: tuple[int, int], dark: bool) -> None:
    ground, crack = levels[::-1] if dark else levels
    masks = [_mask((crack, 20, 4), ground=ground), _mask(ground=ground), _mask(ground=crack)]
    reading = _choose(masks, invert="yes" if dark else "no")
    cleaning = PRESETS["thin"]
    if reading.level is not None:
        cleaning = replace(cleaning, threshold=reading.level)
    found = [(find_cracks(reading.apply(MaskImage(x))[0], cleaning) > 0).mean() for x in masks]
    assert found == [pytest.approx(4 * 105 / masks[0].size), 0, 1]


@pytest.mark.parametrize("ground", [0, 1])
def test_crack_free_masks_do_not_turn_the_guess_of_what_is_dark(ground: int) -> None:
    crack = 1 - ground
    masks = [_mask((crack, 20, 4), ground=ground), *[_mask(ground=ground)] * 3]
    assert _choose(masks).dark == (ground == 1)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("low", [0, 9])
def test_what_is_faint_in_a_set_from_dark_to_light_is_no_crack(dark: bool, low: int) -> None:
    """Heat maps, or tiles of an antialiased mask; a hairline that resizing has made grey stays."""
    away = abs(np.indices((80, 120))[0] - 30)
    drawn = np.clip(255 - 30 * away, 0, 255).astype(np.uint8)
    faint = np.clip(60 - 7 * away, low, 255).astype(np.uint8)
    grey = np.clip(100 - 40 * away, low, 255).astype(np.uint8)
    binary = _mask((1, 20, 4))
    masks = [255 - x if dark else x for x in (drawn, drawn, faint, grey, binary)]
    reading = _choose(masks)
    assert (reading.dark, reading.spans) == (dark, True)
    assert "faint beside those of the set, read as without crack: 1" in reading.sentence
    greys = [reading.apply(MaskImage(x))[0] for x in masks]
    found = [np.count_nonzero(binarize(x, "auto")) for x in greys]
    assert found == [9 * 120, 9 * 120, 0, 3 * 120, 4 * 105]


def test_without_faint_masks_each_is_read_by_itself() -> None:
    shades = np.clip(255 - 30 * abs(np.indices((80, 120))[0] - 30), 0, 255).astype(np.uint8)
    masks = [shades, np.minimum(shades, 200), _mask(), _mask((30, 20, 4))]
    assert not _choose(masks).spans


def test_faint_rims_do_not_turn_the_guess_of_what_is_dark() -> None:
    shades = [
        _mask((0, 20, 4), (10, 24, 1), ground=120),
        _mask((0, 40, 4), (10, 44, 1), ground=120),
    ]
    reading = _choose([_mask((0, 20, 4), ground=255), *shades])
    found = [np.count_nonzero(binarize(reading.apply(MaskImage(x))[0], "auto")) for x in shades]
    assert found == [5 * 105, 5 * 105]
