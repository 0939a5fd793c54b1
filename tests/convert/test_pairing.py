"""Photos find their masks in every layout in use, and what is ambiguous is said."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from crack_data.convert.pairing import pair_files
from crack_data.errors import CrackError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _pairs(root: Path, images: str = ".", masks: str = ".") -> list[tuple[str, str]]:
    pairing = pair_files(root / images, root / masks)
    return [
        (pair.file_name, Path(mask).relative_to(root).as_posix())
        for pair in pairing.records
        for mask in pair.masks
    ]


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("a.jpg", "a.png"),
        ("a.JPEG", "a.BMP"),
        ("a.jpg", "a_mask.png"),
        ("a.png", "a_label.tif"),
        ("a.bmp", "a_lab.tiff"),
        ("a.webp", "a_GT.webp"),
        ("a.jpg.jpg", "a.jpg.jpg"),
        ("a.jpg.jpg", "a.png"),
        ("a.jpg", "a.jpg_mask.png"),
        ("a_mask.jpg", "a_mask.png"),  # a photo's own name may end like that
        ("a.b.jpg", "a.b-mask.png"),
        ("001.jpg", "001.mat"),
    ],
)
def test_two_folders(photo: str, mask: str, tmp_path: Path) -> None:
    _touch(tmp_path, f"images/{photo}", f"masks/{mask}")
    assert _pairs(tmp_path, "images", "masks") == [(photo, f"masks/{mask}")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "a_mask.png"], [("a.jpg", "a_mask.png")]),
        (["a.jpg", "a_mask.jpg", "b.jpg", "b_gt.png"],
         [("a.jpg", "a_mask.jpg"), ("b.jpg", "b_gt.png")]),
        (["a.jpg", "a.mat"], [("a.jpg", "a.mat")]),
        (["crop/a.jpg", "crop/a.png", "b.JPG", "train.txt"], [("crop/a.jpg", "crop/a.png")]),
        (["train_img/1.jpg", "train_lab/1.png", "test_img/1.jpg", "test_lab/1.png"],
         [("test_img/1.jpg", "test_lab/1.png"), ("train_img/1.jpg", "train_lab/1.png")]),
        (["train/images/a.jpg", "train/masks/a.png", "test/images/b.jpg", "test/masks/b.png"],
         [("test/images/b.jpg", "test/masks/b.png"), ("train/images/a.jpg", "train/masks/a.png")]),
        (["image/001.jpg", "groundTruth/001.mat"], [("image/001.jpg", "groundTruth/001.mat")]),
        (["images/a.jpg", "masks/a.png"], [("images/a.jpg", "masks/a.png")]),
    ],
)  # fmt: skip
def test_one_folder(names: list[str], expected: list[tuple[str, str]], tmp_path: Path) -> None:
    _touch(tmp_path, *names)
    assert _pairs(tmp_path) == expected


def test_files_without_partner_are_listed(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks/a.png", "masks/c.png")
    _touch(tmp_path, "masks/notes.txt", "masks/.hidden.png")
    pairing = pair_files(tmp_path / "images", tmp_path / "masks")
    assert [Path(path).name for path in pairing.photos_without_mask] == ["b.jpg"]
    assert [Path(path).name for path in pairing.masks_without_photo] == ["c.png"]


def test_two_photos_of_one_name_are_both_named(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "images/a.png", "masks/a.png")
    with pytest.raises(CrackError) as caught:
        pair_files(tmp_path / "images", tmp_path / "masks")
    assert str(tmp_path / "images/a.jpg") in str(caught.value)
    assert str(tmp_path / "images/a.png") in str(caught.value)


@pytest.mark.parametrize(
    ("photos", "masks"),
    [
        (["bridge1/a.jpg", "bridge2/a.jpg", "top.jpg"], ["bridge1/a.png", "bridge2/a_mask.png",
                                                         "top.png"]),
        (["train/images/a.jpg", "valid/images/a.jpg"], ["train/masks/a.png", "valid/masks/a.png"]),
        (["images/val/a.jpg"], ["labels/val/a.png"]),
        (["JPEGImages/a.jpg"], ["SegmentationClass/a.png"]),
        (["a/b/c/d.jfif"], ["a/b/c/d.png"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("together", [True, False])
def test_subfolders_are_read_and_keep_their_names(
    photos: list[str], masks: list[str], together: bool, tmp_path: Path
) -> None:
    if together and not any(word in masks[0] for word in ("mask", "label", "Segm")):
        masks = [f"masks/{mask}" for mask in masks]
    first, second = ("", "") if together else ("photos/", "drawn/")
    _touch(tmp_path, *(first + name for name in photos), *(second + name for name in masks))
    pairing = pair_files(tmp_path / first, tmp_path / second)
    assert [pair.file_name for pair in pairing.records] == photos
    assert [*pairing.photos_without_mask, *pairing.masks_without_photo] == []
    assert not pairing.other_files


def test_one_folder_within_the_other_is_not_read_twice(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "drawn/a.png")
    pairing = pair_files(tmp_path, tmp_path / "drawn")
    assert [(pair.file_name, len(pair.masks)) for pair in pairing.records] == [("a.jpg", 1)]
    assert not pairing.photos_without_mask


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "masks/a.png")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    assert _pairs(tmp_path, "images", "masks") == [("a.jpg", "masks/a.png")]


@pytest.mark.parametrize("link", ["latest", "z", "top.lnk"])
def test_a_link_to_a_neighbour_does_not_take_its_photos(link: str, tmp_path: Path) -> None:
    _touch(tmp_path, "images/site/a.jpg", "masks/site/a.png")
    (tmp_path / "images" / link).symlink_to("site")
    pairing = pair_files(tmp_path / "images", tmp_path / "masks")
    assert [pair.file_name for pair in pairing.records] == ["site/a.jpg"]
    assert not pairing.masks_without_photo


def test_a_link_to_a_place_that_is_not_read_is_followed(tmp_path: Path) -> None:
    _touch(tmp_path, "images/.store/a.jpg", "masks/site/a.png")
    (tmp_path / "images" / "site").symlink_to(".store")
    pairing = pair_files(tmp_path / "images", tmp_path / "masks")
    assert [pair.file_name for pair in pairing.records] == ["site/a.jpg"]
    _touch(tmp_path, "set/labels/store/b.jpg", "set/labels/b.png")
    (tmp_path / "set" / "photos").symlink_to("labels/store")
    pairing = pair_files(tmp_path / "set", tmp_path / "set" / "labels")
    assert [pair.file_name for pair in pairing.records] == ["photos/b.jpg"]


def test_hidden_files_are_passed_over_and_other_kinds_counted(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "images/._a.jpg", "images/.cache/b.jpg", "images/c.cr2")
    _touch(tmp_path, "images/d.CR2", "images/README", "masks/a.png", "masks/._a.png")
    _touch(tmp_path, "images/__MACOSX/a.jpg")
    os.mkfifo(tmp_path / "images" / "pipe.jpg")
    pairing = pair_files(tmp_path / "images", tmp_path / "masks")
    assert len(pairing.records) == 1
    assert pairing.other_files == {".cr2": 2, "without ending": 1, "pipe or device": 1}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_compared_in_one_unicode_spelling(form: str, tmp_path: Path) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    photo = unicodedata.normalize(form, "Brücke/Straße_ä.jpg")
    _touch(tmp_path, f"images/{photo}")
    _touch(tmp_path, "masks/" + unicodedata.normalize(other, "Brücke/Straße_ä_mask.png"))
    (pair,) = pair_files(tmp_path / "images", tmp_path / "masks").records
    assert pair.file_name == photo  # as the file system has it


@pytest.mark.parametrize(
    ("pattern", "masks"),
    [
        ("mask_{stem}", ["mask_IMG_1.png"]),
        ("mask_{stem}.png", ["mask_IMG_1.png"]),
        ("{stem}-crack", ["IMG_1-crack.png"]),
        ("{stem}_*", ["IMG_1_a.png", "IMG_1_b_c.png"]),
        ("*-{stem}-*.png", ["7-IMG_1-x.png"]),
    ],
)
def test_a_pattern_says_what_masks_are_called(
    pattern: str, masks: list[str], tmp_path: Path
) -> None:
    _touch(tmp_path, "images/IMG_1.jpg", "images/IMG.jpg", *(f"masks/{mask}" for mask in masks))
    pairing = pair_files(tmp_path / "images", tmp_path / "masks", pattern)
    assert [(p.file_name, [Path(m).name for m in p.masks]) for p in pairing.records] == [
        ("IMG_1.jpg", masks)
    ]
    _touch(tmp_path, "both/IMG_1.jpg", *(f"both/{mask}" for mask in masks))
    (pair,) = pair_files(tmp_path / "both", tmp_path / "both", pattern).records
    assert [Path(mask).name for mask in pair.masks] == masks


def test_a_pattern_without_stem_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "masks/a.png")
    with pytest.raises(CrackError, match=r"--mask-pattern 'mask' must hold"):
        pair_files(tmp_path / "images", tmp_path / "masks", "mask")


def test_several_masks_of_one_photo_belong_to_it(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "masks/a_mask_1.png", "masks/a_mask_2.png", "masks/a.png")
    _touch(tmp_path, "images/b.jpg", "masks/b_0.png", "images/c.jpg", "masks/c.png")
    _touch(tmp_path, "masks/c_1.png")  # of a photo c_1 that is not there
    pairing = pair_files(tmp_path / "images", tmp_path / "masks")
    assert [len(pair.masks) for pair in pairing.records] == [3, 1, 1]
    assert [Path(path).name for path in pairing.masks_without_photo] == ["c_1.png"]


def test_numbers_that_photos_have_are_no_numbers_of_masks(tmp_path: Path) -> None:
    _touch(tmp_path, "images/wall.jpg", "images/wall_1.jpg", "images/wall_2.jpg")
    _touch(tmp_path, "masks/wall_1.png", "masks/wall_2.png", "masks/wall_3.png")
    pairing = pair_files(tmp_path / "images", tmp_path / "masks")
    assert [Path(x.photo).name for x in pairing.records] == ["wall_1.jpg", "wall_2.jpg"]
    assert [Path(path).name for path in pairing.photos_without_mask] == ["wall.jpg"]
    assert [Path(path).name for path in pairing.masks_without_photo] == ["wall_3.png"]


def test_photos_without_mask_may_count_as_crack_free(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks/a.png")
    pairing = pair_files(tmp_path / "images", tmp_path / "masks", without_mask="crack-free")
    assert [len(pair.masks) for pair in pairing.records] == [1, 0]
    assert not pairing.photos_without_mask
    (tmp_path / "masks/a.png").rename(tmp_path / "masks/x.png")
    with pytest.raises(CrackError, match="no usable pair"):
        pair_files(tmp_path / "images", tmp_path / "masks", without_mask="crack-free")
    (tmp_path / "masks/x.png").unlink()
    pairing = pair_files(tmp_path / "images", tmp_path / "masks", without_mask="crack-free")
    assert len(pairing.records) == 2


def test_no_pair_names_files_and_endings(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"images/{i}.jpg" for i in range(5)), "masks/x.png", "masks/x.json")
    with pytest.raises(CrackError) as caught:
        pair_files(tmp_path / "images", tmp_path / "masks")
    for part in ("0.jpg, 1.jpg, 2.jpg and 2 more", "x.png", "not read: 1 .json", ".jfif",
                 "--mask-pattern", "--labels"):  # fmt: skip
        assert part in str(caught.value)


def test_a_missing_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(CrackError, match="masks does not exist"):
        pair_files(tmp_path / "images", tmp_path / "masks")
    _touch(tmp_path, "images/a.gpr", "images/b.gpr")
    with pytest.raises(CrackError, match=r"holds no photos.*not read: 2 \.gpr"):
        pair_files(tmp_path / "images", tmp_path / "images")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("subfolders", ["bridge1/a.jpg", "bridge2/a.jpg", "top.jpg"]),
        ("mac_dotfiles", ["a.jpg", "b.jpg"]),
        ("unmatched_names/n_multi", ["a.jpg", "b.jpg"]),
    ],
)
def test_cases_in_use(case: str, names: list[str], shared: Path) -> None:
    folder = shared / "cases" / case
    pairing = pair_files(folder / "images", folder / "masks")
    assert [pair.file_name for pair in pairing.records] == names
    assert [*pairing.photos_without_mask, *pairing.masks_without_photo] == []


def test_a_number_behind_the_word_may_be_the_photos(tmp_path: Path) -> None:
    photos = ("a", "a_1", "a_2")
    _touch(tmp_path, *(f"images/{x}.jpg" for x in photos))
    _touch(tmp_path, *(f"masks/a_mask{x[1:]}.png" for x in photos))
    pairs = [(f"{x}.jpg", f"masks/a_mask{x[1:]}.png") for x in photos]
    assert _pairs(tmp_path, "images", "masks") == pairs


@pytest.mark.parametrize(
    ("photos", "masks"),
    [
        (("1", "11"), {"1_mask1": "1", "1_mask2": "1", "11_mask1": "11"}),
        (("a", "a_2"), {"a_label": "a", "a_label_2": "a", "a_2_label": "a_2"}),
    ],
)
def test_or_count_the_masks_of_one(
    photos: tuple[str, ...], masks: dict[str, str], tmp_path: Path
) -> None:
    _touch(tmp_path, *(f"images/{x}.jpg" for x in photos), *(f"masks/{x}.png" for x in masks))
    found = {
        Path(mask).stem: Path(photo).stem for photo, mask in _pairs(tmp_path, "images", "masks")
    }
    assert found == masks
