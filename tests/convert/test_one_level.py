"""Masks of one level, or of few levels near each other, are read by the levels of their set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crack_data.convert.cleaning import PRESETS, binarize, find_cracks
from crack_data.convert.mask_files import MaskImage, count_values
from crack_data.convert.mask_values import choose_reading

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
@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("low", [0, 40])
def test_few_grey_levels_are_faint_in_a_set_that_has_all(dark: bool, lossy: bool, low: int) -> None:
    """Heat maps, or tiles of an antialiased mask: their own middle would be crack in each."""
    away = abs(np.indices((80, 120))[0] - 30)
    drawn = np.clip(255 - 30 * away, 0, 255).astype(np.uint8)
    faint = np.clip(100 - 7 * away, low, 255).astype(np.uint8)
    masks = [255 - x if dark else x for x in (drawn, drawn, faint)]
    reading = choose_reading([replace(count_values(MaskImage(x)), lossy=lossy) for x in masks])
    assert (reading.dark, reading.full) == (dark, True)
    assert dark or lossy or "1 masks have few of the set's grey" in reading.sentence
    greys = [reading.apply(MaskImage(x))[0] for x in masks]
    assert [np.count_nonzero(binarize(x, 127)) for x in greys] == [9 * 120, 9 * 120, 0]


def test_masks_that_all_go_from_dark_to_light_are_read_by_themselves() -> None:
    shades = np.clip(255 - 30 * abs(np.indices((80, 120))[0] - 30), 0, 255).astype(np.uint8)
    masks = [shades, np.minimum(shades, 200), _mask(), _mask((30, 20, 4))]
    assert not _choose(masks).full
