from __future__ import annotations

import numpy as np
import pytest

from crack_data.inference.drawing import draw_prediction, instance_colour

from .drawn import draw_crack, line
from .test_prediction import prediction_of


def test_the_crack_stays_visible_inside_its_outline() -> None:
    photo = np.full((60, 90, 3), 150, dtype=np.uint8)
    mask = draw_crack(line((45.2, 30.3), 70, 0), 3, (60, 90))
    photo[mask] = 40
    before = photo.copy()
    drawn = draw_prediction(photo, prediction_of(mask))
    assert np.array_equal(photo, before)
    # Inside: a mixture of crack and colour. Around: the colour. Elsewhere: the photo.
    assert (drawn[mask] > photo[mask]).any(axis=1).all()
    assert not (drawn[mask] == instance_colour(0)).all(axis=1).any()
    assert (drawn[28, 20:70] == instance_colour(0)).all()
    assert np.array_equal(drawn[:20], photo[:20])


def test_instances_have_distinct_colours() -> None:
    masks = [draw_crack(line((45.2, y), 70, 0), 3, (60, 90)) for y in (10.3, 30.3, 50.3)]
    drawn = draw_prediction(np.zeros((60, 90, 3), dtype=np.uint8), prediction_of(*masks))
    outlines = {tuple(drawn[y, 45]) for y in (8, 28, 48)}
    assert outlines == {instance_colour(number) for number in range(3)}


def test_outlines_do_not_hide_a_crack_of_one_pixel() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[20, 5:35] = True
    drawn = draw_prediction(np.zeros((40, 40, 3), dtype=np.uint8), prediction_of(mask))
    assert not (drawn[20, 10:30] == drawn[19, 10:30]).all(axis=1).any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 50), (300, 400)])
def test_masks_over_the_whole_photo(shape: tuple[int, int]) -> None:
    photo = np.zeros((*shape, 3), dtype=np.uint8)
    drawn = draw_prediction(photo, prediction_of(np.ones(shape, dtype=bool)), True, True)
    assert drawn.shape == photo.shape
    assert drawn.any()


def test_boxes_and_scores_on_request() -> None:
    mask = draw_crack(line((150.2, 100.3), 120, 30), 4, (200, 300))
    photo = np.zeros((200, 300, 3), dtype=np.uint8)
    prediction = prediction_of(mask)
    plain, boxed = (
        draw_prediction(photo, prediction),
        draw_prediction(photo, prediction, boxes=True),
    )
    x0, y0, x1, y1 = prediction.instances[0].box
    assert (boxed[y0, x0:x1] == instance_colour(0)).all()
    assert (boxed[y0:y1, x1 - 1] == instance_colour(0)).all()
    scored = draw_prediction(photo, prediction, scores=True)
    assert (scored[:y0] != plain[:y0]).any()


def test_lines_grow_with_the_photo() -> None:
    mask = np.zeros((1000, 2700), dtype=bool)
    mask[500, 100:2000] = True
    drawn = draw_prediction(np.zeros((*mask.shape, 3), dtype=np.uint8), prediction_of(mask))
    assert np.count_nonzero(drawn[:, 1000].any(axis=1)) == 1 + 2 * 3
