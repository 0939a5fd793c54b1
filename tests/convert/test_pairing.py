"""Photos find their masks in every layout in use, and what is ambiguous is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from crack_data.convert.pairing import find_pairs
from crack_data.errors import CrackError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _pairs(root: Path, images: str = ".", masks: str = ".") -> list[tuple[str, str]]:
    pairing = find_pairs(root / images, root / masks)
    return [
        (pair.file_name, Path(pair.mask).relative_to(root).as_posix()) for pair in pairing.pairs
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
    pairing = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert [Path(path).name for path in pairing.photos_without_mask] == ["b.jpg"]
    assert [Path(path).name for path in pairing.masks_without_photo] == ["c.png"]


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        (["images/a.jpg", "images/a.png", "masks/a.png"], "images/a.jpg", "images/a.png"),
        (["images/a.jpg", "masks/a.png", "masks/a_mask.png"], "masks/a.png", "masks/a_mask.png"),
    ],
)
def test_two_files_of_one_name_are_both_named(
    names: list[str], first: str, second: str, tmp_path: Path
) -> None:
    _touch(tmp_path, *names)
    with pytest.raises(CrackError) as caught:
        find_pairs(tmp_path / "images", tmp_path / "masks")
    assert str(tmp_path / first) in str(caught.value)
    assert str(tmp_path / second) in str(caught.value)


def test_a_missing_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(CrackError, match="masks does not exist"):
        find_pairs(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(CrackError, match="holds no photos"):
        find_pairs(tmp_path / "images", tmp_path / "images")
