"""What mask values mean is told from the whole set, said, and never guessed where it matters."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from crack_data.convert.cleaning import PRESETS, find_cracks
from crack_data.convert.mask_files import MaskImage, count_values, read_mask
from crack_data.convert.mask_values import MaskReading, choose_reading, parse_values
from crack_data.errors import CrackError

SHAPE = (80, 120)


def _mask(*lines: tuple[int, int, int], dtype: type = np.uint8, ground: int = 0) -> np.ndarray:
    """Level lines, each of a value, at a row, with a thickness."""
    values = np.full(SHAPE, ground, dtype)
    for value, row, thickness in lines:
        values[row : row + thickness, 5:110] = value
    return values


def _jpeg(values: np.ndarray, quality: int = 90) -> MaskImage:
    data = io.BytesIO()
    Image.fromarray(values).save(data, "JPEG", quality=quality)
    return MaskImage(np.asarray(Image.open(data)), lossy=True)


def _choose(masks: Sequence[np.ndarray | MaskImage], **given: object) -> MaskReading:
    images = [mask if isinstance(mask, MaskImage) else MaskImage(mask) for mask in masks]
    return choose_reading([count_values(image) for image in images], **given)


def _crack(reading: MaskReading, values: np.ndarray | MaskImage) -> np.ndarray:
    mask = values if isinstance(values, MaskImage) else MaskImage(values)
    return reading.apply(mask)[0] > 127


@pytest.mark.parametrize("levels", [(0, 255), (0, 1), (0, 128), (0, 37)])
def test_two_levels_are_read_without_a_word(levels: tuple[int, int]) -> None:
    values = _mask((levels[1], 20, 4))
    reading = _choose([values, np.zeros(SHAPE, np.uint8)])
    assert (reading.crack, reading.ignored, reading.sentence) == (frozenset(), frozenset(), "")


def test_255_beside_class_numbers_is_ignored() -> None:
    both, void_alone = _mask((1, 20, 4), (255, 50, 6)), _mask((255, 10, 3))
    reading = _choose([both, void_alone, _mask((1, 60, 2))])
    assert np.array_equal(_crack(reading, both), both == 1)
    assert not _crack(reading, void_alone).any()
    ignored = reading.apply(MaskImage(void_alone))[1]
    assert np.array_equal(ignored, void_alone == 255)
    for part in ("0 background", "1 crack (630 px)", "255 ignored (945 px)"):
        assert part in reading.sentence
    dark = _mask((0, 20, 4), (255, 50, 6), ground=1)
    reading = _choose([dark])
    assert np.array_equal(_crack(reading, dark), dark == 0)
    assert "0 crack (420 px), 1 background" in reading.sentence


@pytest.mark.parametrize("values", [(127, 255), (1, 2), (50, 100, 200)])
def test_several_classes_are_listed_and_not_guessed(values: tuple[int, ...]) -> None:
    lines = [(value, 10 * row, 3) for row, value in enumerate(values)]
    scattered = [(value, 10 * row + 5, 2) for row, value in enumerate(values)]
    mask = _mask(*lines, *scattered)
    mask[:, 60] = 0
    with pytest.raises(CrackError, match=rf"{values[0]} \(\d+ px\).*--crack-value") as caught:
        _choose([mask])
    assert "--instances values" in str(caught.value)


@pytest.mark.parametrize("quality", [60, 85, 95])
def test_classes_of_a_jpeg_are_listed_and_one_can_be_named(quality: int) -> None:
    values = np.zeros((120, 160), np.uint8)
    values[20:26, 8:150] = 127
    values[60:100, 40:90] = 255
    mask = _jpeg(values, quality)
    with pytest.raises(CrackError, match=r"12\d \(.*25\d \(.*--crack-value"):
        _choose([mask])
    crack = _crack(_choose([mask], crack=frozenset({127})), mask)
    assert (crack & (values == 127)).sum() > 0.95 * (values == 127).sum()
    assert not crack[62:98, 42:88].any()


def test_levels_that_jpeg_moved_from_mask_to_mask_are_one() -> None:
    """Red drawn on white is 76 in grey, give or take what compression makes of it."""
    masks = [_jpeg(_mask((level, 10, 12), ground=255), 95) for level in (75, 76, 78)]
    reading = _choose(masks)
    assert reading.dark
    assert np.array_equal(_crack(reading, masks[0]), _mask((255, 10, 12)) > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_named_value_is_crack_and_the_rest_is_left_out(dtype: type) -> None:
    mask = _mask((127, 20, 4), (255, 50, 6), dtype=dtype)
    reading = _choose([mask], crack=frozenset({127}))
    assert np.array_equal(_crack(reading, mask), mask == 127)
    assert "127 crack" in reading.sentence
    assert "255 left out" in reading.sentence
    reading = _choose([mask], ignored=frozenset({255}))
    assert np.array_equal(_crack(reading, mask), mask == 127)
    assert np.array_equal(reading.apply(MaskImage(mask))[1], mask == 255)


def test_what_is_ignored_is_no_crack_though_nothing_else_is_left() -> None:
    mask = _mask((255, 20, 4))
    grey, ignored = _choose([mask], ignored=frozenset({255})).apply(MaskImage(mask))
    assert np.array_equal(ignored, mask == 255)
    assert not grey.any()
    dark = _mask((0, 20, 4), (127, 50, 4), ground=255)
    for image in (MaskImage(dark), _jpeg(dark)):
        assert np.array_equal(_crack(_choose([image], ignored=frozenset({127})), image), dark == 0)
    small = _mask((255, 20, 4), (127, 50, 4))
    small[50:54, 9:] = 0  # too little of it for a label
    reading = _choose([_jpeg(small)], ignored=frozenset({127}))
    assert np.array_equal(_crack(reading, _jpeg(small)), small == 255)
    assert "255 left out" not in reading.sentence


def test_a_value_that_no_mask_has_is_an_error() -> None:
    with pytest.raises(CrackError, match=r"no mask has the value 7; they have 0 \(\d+ px\), 255"):
        _choose([_mask((255, 3, 4))], crack=frozenset({7}))


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        ([1, 2, 3], np.uint8),
        (list(range(6, 240, 6)), np.uint8),
        ([1, 2, 3, 4], np.int32),
        ([1001, 1007], np.int32),
        ([300, 5000, 65535], np.int32),
    ],
)
def test_each_number_is_an_instance(numbers: list[int], dtype: type) -> None:
    lines = [(number, 2 * place % 80, 1) for place, number in enumerate(numbers)]
    mask = _mask(*lines, dtype=dtype)
    reading = _choose([mask, np.zeros(SHAPE, dtype)])
    assert reading.per_value
    assert np.array_equal(reading.apply(MaskImage(mask))[0], mask)
    assert f"{numbers[0]} an instance" in reading.sentence


def test_numbers_that_compression_has_changed_are_refused() -> None:
    even = _jpeg(_mask((50, 5, 9), (100, 25, 9), (150, 45, 9), (200, 65, 9)))
    for masks, given in (([even], {}), ([_jpeg(_mask((255, 20, 4)))], {"per_value": True})):
        with pytest.raises(CrackError, match=r"number instances, but lossy .* save them as PNG"):
            _choose(masks, **given)


def test_void_between_instance_numbers_is_ignored() -> None:
    mask = _mask((1, 10, 2), (2, 20, 2), (3, 30, 2), (255, 50, 4))
    reading = _choose([mask])
    assert reading.per_value
    assert set(np.unique(reading.apply(MaskImage(mask))[0])) == {0, 1, 2, 3}
    assert reading.ignored == {255}


def test_two_values_are_instances_where_the_user_says_so() -> None:
    mask = _mask((127, 10, 2), (255, 20, 2))
    reading = _choose([mask], per_value=True)
    assert set(np.unique(reading.apply(MaskImage(mask))[0])) == {0, 127, 255}


def test_a_jpeg_of_0_and_1_keeps_its_crack_but_noise_is_none() -> None:
    mask = _mask((1, 20, 8), (1, 50, 8))
    faint = _jpeg(mask)
    reading = _choose([faint])
    found = reading.apply(faint)[0] > 0
    assert (found & (mask > 0)).sum() / (found | (mask > 0)).sum() > 0.8
    strong = _jpeg(mask * np.uint8(255))
    assert not (_choose([faint, strong]).apply(faint)[0] > 0).any()


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("png", [True, False])
def test_ringing_is_no_class(quality: int, png: bool) -> None:
    values = np.zeros(SHAPE, np.uint8)
    cv2.line(values, (4, 6), (110, 70), 255, 5)
    cv2.line(values, (60, 2), (20, 75), 255, 1)
    mask = _jpeg(values, quality)
    mask = MaskImage(mask.values) if png else mask  # saved again without loss
    reading = _choose([mask])
    assert (reading.crack, reading.sentence) == (frozenset(), "")


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.6])
def test_grey_rims_of_scaled_masks_are_no_class(factor: float) -> None:
    values = np.zeros((200, 300), np.uint8)
    cv2.line(values, (4, 6), (290, 170), 255, 9)
    cv2.line(values, (160, 2), (20, 175), 255, 2)
    for method in (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC):
        scaled = cv2.resize(values, None, fx=factor, fy=factor, interpolation=method)
        assert _choose([np.asarray(scaled)]).crack == frozenset()


def test_noise_of_a_light_mask_without_crack_is_none_where_cracks_are_dark() -> None:
    noise = np.random.default_rng(0).integers(246, 253, SHAPE, np.uint8)
    empty = _jpeg(noise)
    reading = _choose([_jpeg(_mask((0, 20, 6), ground=250))] * 3 + [empty])
    assert reading.dark
    assert not reading.apply(empty)[0].any()


def test_polarity_is_that_of_the_set() -> None:
    wide = _mask((255, 5, 56))  # 61 % of it
    thin = _mask((255, 20, 2))
    for masks in ([wide], [thin, wide]):
        reading = _choose(masks)
        assert not reading.dark
        assert np.array_equal(_crack(reading, wide), wide == 255)
    dark = _choose([255 - thin, 255 - thin, 255 - wide])
    assert dark.dark
    assert "light" in dark.sentence
    assert np.array_equal(_crack(dark, 255 - wide), wide == 255)


def test_masks_of_different_levels_are_told() -> None:
    reading = _choose([_mask((127, 10, 3)), _mask((255, 30, 3))])
    assert "127 (315 px)" in reading.sentence
    assert "255 (315 px)" in reading.sentence
    reading = _choose([_mask((254, 10, 3), (255, 30, 3))])
    assert reading.sentence == "levels that were read as one: 254 (315 px), 255 (315 px)"


def _colours(*lines: tuple[int, int, int], ground: int = 0) -> MaskImage:
    return MaskImage(_mask(*lines, dtype=np.int32, ground=ground), colours=True)


def test_colours_of_classes() -> None:
    mask = _colours((0xFF0000, 10, 3), (0x00FF00, 30, 6))
    with pytest.raises(CrackError, match=r"#00ff00 \(630 px\), #ff0000 \(315 px\)"):
        _choose([mask])
    reading = _choose([mask], crack=parse_values("#ff0000"))
    assert np.array_equal(_crack(reading, mask), mask.values == 0xFF0000)
    one, other = _colours((0xFF0000, 10, 3)), _colours((0x00FF00, 30, 6))
    listed = r"colour of crack: #00ff00 (630 px), #ff0000 (315 px); --crack-value names one"
    assert _choose([one, other]).sentence == f"masks differ in their {listed}"
    assert _choose([one, one]).sentence == ""


def test_the_ground_of_coloured_masks_is_that_of_the_set() -> None:
    mostly = _colours((0xC80000, 5, 60), ground=0xFFFFFF)
    reading = _choose([_colours((0xC80000, 5, 2), ground=0xFFFFFF)] * 3 + [mostly])
    assert np.array_equal(_crack(reading, mostly), mostly.values == 0xC80000)


def test_grey_masks_among_coloured_ones_hold_colours_too() -> None:
    """A photo without spalling, or without damage: its mask alone is grey."""
    crack, both = _mask((255, 10, 3)), _colours((0xFFFFFF, 10, 3), (0xFF0000, 30, 6))
    reading = _choose([crack, both], crack=parse_values("#ffffff"))
    for mask in (crack, both):
        assert np.array_equal(_crack(reading, mask), crack == 255)
    assert "#ffffff crack (630 px)" in reading.sentence
    reading = _choose([_colours((0xFF0000, 10, 3), ground=0xFFFFFF)] * 3 + [_mask(ground=255)])
    assert not reading.apply(MaskImage(_mask(ground=255)))[0].any()


def test_colours_of_a_jpeg_are_found_by_name_and_else_read_as_one(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    drawn = _mask((1, 20, 5), (2, 50, 9))
    Image.fromarray(colours[drawn]).save(tmp_path / "m.jpg", quality=90)
    mask = read_mask(tmp_path / "m.jpg")
    reading = _choose([mask], crack=parse_values("#ff0000"), ignored=parse_values("#00ff00"))
    crack, ignored = _crack(reading, mask), reading.apply(mask)[1] > 0
    for found, value in ((crack, 1), (ignored, 2)):
        assert (found & (drawn == value)).sum() > 0.7 * (drawn == value).sum()
        assert not (found & ~cv2.dilate(drawn, np.ones((3, 3))).astype(bool)).any()
    Image.fromarray(colours[drawn * (drawn == 2)]).save(tmp_path / "void.jpg", quality=90)
    void = read_mask(tmp_path / "void.jpg")
    grey, _ = _choose([mask, void], ignored=parse_values("#00ff00")).apply(void)
    assert not find_cracks(grey, PRESETS["thin"]).any()
    reading = _choose([mask])
    assert "all but the background" in reading.sentence
    assert _crack(reading, mask)[[22, 54], 20:90].all()


def test_values_as_they_are_typed() -> None:
    assert parse_values("") == frozenset()
    assert parse_values("1,255,#00ff00") == {1, 255, 0xFF00}
    with pytest.raises(CrackError, match="'red' is neither"):
        parse_values("red")


def test_no_mask_at_all() -> None:
    assert choose_reading([]).sentence == ""
    assert choose_reading([], per_value=True).sentence == ""
