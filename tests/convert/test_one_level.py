"""Masks of one level, without crack or all crack, are read by the two levels of their set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crack_data.convert.cleaning import PRESETS, find_cracks
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
