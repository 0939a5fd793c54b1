"""Folders of photos and masks → COCO JSON: content, order, splits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from crack_data.convert.cleaning import PRESETS, CleaningOptions, find_cracks
from crack_data.convert.conversion import convert
from crack_data.convert.mask_files import read_mask
from crack_data.convert.worker import ConversionOptions
from crack_data.errors import CrackError
from crack_data.segmentation import decode_mask
from crack_data.storage import HAS_HEIF

from .pairs import HEIGHT, WIDTH, load, options_of, write_pair


@pytest.mark.parametrize("mask_format", ["rle", "polygon"])
@pytest.mark.parametrize("instances", ["components", "single"])
def test_decoding_gives_the_cleaned_masks_back(
    folder: Path, mask_format: str, instances: str
) -> None:
    result = convert(options_of(folder, mask_format=mask_format, instances=instances))
    coco = COCO(str(result.outputs[""]))
    assert coco.dataset["categories"][0]["name"] == "crack"
    assert len(coco.imgs) == 6
    for image in coco.imgs.values():
        stem = image["file_name"].removesuffix(".jpg")
        mask = read_mask(folder / "masks" / f"{stem}_mask.png").values
        expected = (find_cracks(mask, PRESETS["thin"]) > 0).view(np.uint8)
        found = np.zeros_like(expected)
        annotations = coco.imgToAnns[image["id"]]
        for annotation in annotations:
            instance = coco.annToMask(annotation)
            assert annotation["bbox"] == list(cv2.boundingRect(instance))
            assert annotation["area"] == instance.sum()
            assert annotation["iscrowd"] == 0
            found |= instance
        assert np.array_equal(found, expected)
        if expected.any():
            assert len(annotations) == (1 if instances == "single" else 2)


def test_ids_and_names_are_stable(folder: Path) -> None:
    data = load(convert(options_of(folder)).outputs[""])
    assert [image["file_name"] for image in data["images"]] == [
        "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "nothing.jpg"
    ]  # fmt: skip
    assert [image["id"] for image in data["images"]] == [1, 2, 3, 4, 5, 6]
    assert [entry["id"] for entry in data["annotations"]] == list(range(1, 11))
    assert data["info"]["image_root"] == "images"
    assert data["licenses"] == []


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    for seed in range(24):
        write_pair(tmp_path, f"{seed:02d}", seed)
    shares = {"train": 0.7, "val": 0.3}
    one = convert(options_of(tmp_path, shares=shares, workers=1))
    before = {split: path.read_bytes() for split, path in one.outputs.items()}
    two = convert(options_of(tmp_path, shares=shares, workers=2))
    assert {split: path.read_bytes() for split, path in two.outputs.items()} == before
    assert one.records == two.records


def test_the_photos_may_lie_elsewhere(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("out") / "crack.json"
    convert(options_of(folder, output=output))
    assert load(output)["info"]["image_root"] == str((folder / "images").resolve())


def test_photos_without_crack_stay_or_go(folder: Path) -> None:
    assert len(load(convert(options_of(folder)).outputs[""])["images"]) == 6
    result = convert(options_of(folder, drop_empty=True))
    assert len(load(result.outputs[""])["images"]) == 5
    assert result.records[-1].left_out == "no crack"


def test_exif_orientation_gives_the_size_that_training_sees(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(folder / "images" / "a.jpg").rotate(90, expand=True)
    turned.save(folder / "images" / "a.jpg", exif=exif, quality=92)
    image = load(convert(options_of(folder)).outputs[""])["images"][0]
    assert (image["height"], image["width"]) == (HEIGHT, WIDTH)


def test_a_mask_of_another_size_is_an_error_or_resized(folder: Path) -> None:
    mask = cv2.imread(str(folder / "masks" / "a_mask.png"), 0)
    cv2.imwrite(str(folder / "masks" / "a_mask.png"), cv2.resize(mask, None, fx=2, fy=2))
    with pytest.raises(CrackError, match=r"240x180 px.*120x90 px"):
        convert(options_of(folder))
    result = convert(options_of(folder, resize_masks=True))
    assert result.records[0].instances == 2


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_hairlines_of_a_larger_mask_are_kept(scale: int, folder: Path) -> None:
    mask = np.zeros((scale * HEIGHT, scale * WIDTH), np.uint8)
    mask[scale * 20 + 1, 8:-8] = 255
    mask[30:-30, scale * 50] = 255
    cv2.imwrite(str(folder / "masks" / "a_mask.png"), mask)
    record = convert(options_of(folder, resize_masks=True)).records[0]
    touched = mask.reshape(HEIGHT, scale, WIDTH, scale).any(axis=(1, 3))
    assert record.crack_area == np.count_nonzero(touched)


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [(60, 45, True), (41, 31, True), (120, 91, True), (240, 181, True), (12, 9, True),
     (90, 120, False), (45, 60, False), (120, 60, False), (120, 88, False), (100, 100, False),
     (240, 176, False)],
)  # fmt: skip
def test_only_masks_of_the_photos_shape_are_resized(
    width: int, height: int, fits: bool, folder: Path
) -> None:
    path = folder / "masks" / "a_mask.png"
    cv2.imwrite(str(path), cv2.resize(np.asarray(cv2.imread(str(path), 0)), (width, height)))
    if fits:
        assert convert(options_of(folder, resize_masks=True)).bad_files() == []
        return
    says = rf"mask {path} is {width}x{height} px .* 120x90 px .*; it must show the whole photo"
    for resize_masks in (False, True):
        with pytest.raises(CrackError, match=says):
            convert(options_of(folder, resize_masks=resize_masks))
    result = convert(options_of(folder, resize_masks=True, skip_bad=True))
    assert len(result.bad_files()) == 1
    assert len(result.used()) == 5


def test_splits_share_no_photo_and_report_look_alikes(folder: Path) -> None:
    for name in ("a2", "a3", "a4", "a5", "a6"):
        for part in ("images/{}.jpg", "masks/{}_mask.png"):
            (folder / part.format(name)).write_bytes((folder / part.format("a")).read_bytes())
    shares = {"train": 0.5, "val": 0.5}
    result = convert(options_of(folder, shares=shares))
    names = {
        split: {image["file_name"] for image in load(path)["images"]}
        for split, path in result.outputs.items()
    }
    assert [path.name for path in result.outputs.values()] == ["crack_train.json", "crack_val.json"]
    assert not names["train"] & names["val"]
    assert len(names["train"] | names["val"]) == 11
    assert result.near_duplicates
    assert all(Path(pair.one.photo).stem.startswith("a") for pair in result.near_duplicates)
    assert not convert(options_of(folder, shares=shares, group_by="^.")).near_duplicates


def test_statistics_of_a_pair(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 0)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:25] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "a_mask.png")
    (record,) = convert(options_of(tmp_path)).records
    assert (record.width, record.height, record.instances) == (WIDTH, HEIGHT, 1)
    assert record.crack_area == 5 * WIDTH
    assert record.coverage == pytest.approx(100 * 5 / HEIGHT)


def test_hundreds_of_instances_in_one_photo(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 0)
    mask = np.kron(np.pad([[1]], 1), np.ones((6, 6))).astype(np.uint8) * 255
    mask = np.tile(mask, (17, 18))
    Image.fromarray(mask).save(tmp_path / "masks" / "a_mask.png")
    Image.fromarray(mask).save(tmp_path / "images" / "a.jpg")
    convert(options_of(tmp_path, cleaning=CleaningOptions(link_gap=0)))
    annotations = load(tmp_path / "crack.json")["annotations"]
    assert len(annotations) == 17 * 18 > 255
    assert {annotation["area"] for annotation in annotations} == {36}


def _save_mask(folder: Path, name: str, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(folder / "masks" / name)


def test_ignored_pixels_are_one_crowd_annotation(folder: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:24], mask[60:66, 10:50] = 1, 255
    _save_mask(folder, "a_mask.png", mask)
    for name in "bcde":
        _save_mask(folder, f"{name}_mask.png", np.minimum(mask, 1))
    result = convert(options_of(folder))
    entries = COCO(str(result.outputs[""])).imgToAnns[1]
    assert [entry["iscrowd"] for entry in entries] == [0, 1]
    assert np.array_equal(decode_mask(entries[0]["segmentation"], HEIGHT, WIDTH), mask == 1)
    assert np.array_equal(decode_mask(entries[1]["segmentation"], HEIGHT, WIDTH), mask == 255)
    assert result.records[0].instances == 1
    assert result.records[0].crack_area == 4 * WIDTH
    assert any("255 ignored" in note for note in result.notes)


@pytest.mark.parametrize("levels", [(0, 1, 255), (0, 255), (0, 65535)])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("invert", ["auto", "no", "yes"])
def test_the_users_word_on_which_side_is_crack_holds(
    folder: Path, levels: tuple[int, ...], wide: bool, invert: str
) -> None:
    """Where the higher level covers little of the set, and where it covers most of it."""
    low, high, *void = levels
    mask = np.full((HEIGHT, WIDTH), low, np.uint16 if high > 255 else np.uint8)
    mask[5 : 85 if wide else 15] = high
    mask[85:, 60:] = void[0] if void else low
    for name in ("a", "b", "c", "d", "e", "nothing"):
        _save_mask(folder, f"{name}_mask.png", mask)
    dark = invert == "yes" or (invert == "auto" and wide)
    areas = [record.crack_area for record in convert(options_of(folder, invert=invert)).records]
    assert areas == [np.count_nonzero(mask == (low if dark else high))] * 6


@pytest.mark.parametrize("sixteen", [False, True])
def test_instance_numbers_are_instances_though_they_touch(folder: Path, sixteen: bool) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint16 if sixteen else np.uint8)
    step = 700 if sixteen else 1
    for number in range(1, 6):
        mask[10 * number : 10 * number + 3] = number * step
    mask[11:45, 30:34] = 6 * step  # crosses four others
    for name in ("a", "b", "c", "d", "e", "nothing"):
        _save_mask(folder, f"{name}_mask.png", mask)
    result = convert(options_of(folder))
    assert [record.instances for record in result.records] == [6] * 6
    found = COCO(str(result.outputs[""])).imgToAnns[1]
    expected = [mask == number * step for number in range(1, 7)]
    for entry, pixels in zip(found, expected, strict=True):
        assert np.array_equal(decode_mask(entry["segmentation"], HEIGHT, WIDTH), pixels)
    assert load(result.outputs[""])["info"]["link_gap"] == 0
    assert not any("without effect" in note for note in result.notes)
    assert convert(options_of(folder, instances="single")).records[0].instances == 1
    cleaning = CleaningOptions(min_area=5000, link_gap=10)
    result = convert(options_of(folder, cleaning=cleaning, invert="yes"))
    assert [record.instances for record in result.records] == [6] * 6
    useless = "min_area, link_gap, invert"
    assert f"without effect on masks that number instances: {useless}" in result.notes
    assert load(result.outputs[""])["info"]["link_gap"] == 0


def test_several_masks_are_united_and_photos_without_any_may_be_crack_free(folder: Path) -> None:
    one, other = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    one[20:24], other[60:64] = 255, 255
    _save_mask(folder, "a_mask_1.png", one)
    _save_mask(folder, "a_mask_2.png", other)
    (folder / "masks" / "a_mask.png").unlink()
    (folder / "masks" / "b_mask.png").unlink()
    result = convert(options_of(folder, without_mask="crack-free"))
    assert [record.instances for record in result.records[:2]] == [2, 0]
    assert "1 photos have several masks, which were united" in result.notes


def test_the_splits_of_a_conversion_carry_one_id(folder: Path) -> None:
    def ids(**changes: Any) -> set[str]:
        outputs = convert(options_of(folder, shares={"train": 0.5, "val": 0.5}, **changes)).outputs
        found = [load(path)["info"]["conversion"] for path in outputs.values()]
        assert all(entry["splits"] == ["train", "val"] for entry in found)
        return {entry["id"] for entry in found}

    first = ids()
    assert len(first) == 1
    assert ids() == first
    assert ids(seed=5) != first


def test_a_name_that_is_not_utf8_gives_valid_json(folder: Path) -> None:
    for part, ending in (("images", b".jpg"), ("masks", b"_mask.png")):
        source = folder / part / f"a{ending.decode()}"
        source.rename(os.path.join(folder, part, os.fsdecode(b"Br\xfccke" + ending)))
    result = convert(options_of(folder, shares={"train": 0.5, "val": 0.5}))
    loaded = [image for path in result.outputs.values() for image in load(path)["images"]]
    (name,) = [image["file_name"] for image in loaded if image["file_name"].startswith("Br")]
    assert (folder / "images" / name).is_file()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "photos"),
    [
        ("valid_folder", 3),
        ("nfd_names/images", 2),
        ("tiff_orientation/images", 1),
        ("gray16_eval/images", 4),
        ("heic/images", 3 if HAS_HEIF else 2),
    ],
)
def test_cases_in_use(case: str, photos: int, shared: Path, tmp_path: Path) -> None:
    images = shared / "cases" / case
    masks = images if case == "valid_folder" else images.parent / "masks"
    result = convert(ConversionOptions(images, masks, tmp_path / "o.json"))
    assert [record.error for record in result.records] == [""] * photos
    assert all(record.instances for record in result.records)
