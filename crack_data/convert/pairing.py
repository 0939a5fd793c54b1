"""Which mask belongs to which photo, for the folder layouts in use."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import CrackError

PHOTO_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MASK_EXTENSIONS = (*PHOTO_EXTENSIONS, ".mat")
MASK_SUFFIX = re.compile(r"[_-](masks?|labels?|lab|gt|groundtruth)$", re.IGNORECASE)

# Photo and mask folder, relative to the two folders given (which may be one and the same).
_LAYOUTS = (
    *((f"{part}_img", f"{part}_lab") for part in ("train", "val", "test")),
    *((f"{part}/images", f"{part}/masks") for part in ("train", "val", "test")),
    ("image", "groundTruth"),
    ("images", "masks"),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A photo and its mask. Plain strings: there may be hundreds of thousands.

    Attributes:
        photo, mask: paths of the two files.
        file_name: the photo relative to the image root, with forward slashes.
    """

    photo: str
    mask: str
    file_name: str

    @property
    def stem(self) -> str:
        """The photo's name without folder and extensions."""
        return _stem(self.photo)


@dataclass
class Pairing:
    """The pairs in order of `file_name`, what found no partner, and what could not be listed."""

    image_root: Path
    pairs: list[Pair] = field(default_factory=list)
    photos_without_mask: list[str] = field(default_factory=list)
    masks_without_photo: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find_pairs(images: str | os.PathLike[str], masks: str | os.PathLike[str]) -> Pairing:
    """Pair the photos below ``images`` with the masks below ``masks``.

    The folders hold the files themselves, or one of the layouts of DeepCrack
    (``train_img``/``train_lab``, ...), CrackForest (``image``/``groundTruth``), ``images``/
    ``masks`` and ``train|val|test/{images,masks}``. Both may be one folder, whose masks then
    carry a suffix such as ``_mask``.

    Raises:
        CrackError: a folder is missing, holds no photos, or two files claim one name.
    """
    pairing = Pairing(Path(images))
    for folder in (Path(images), Path(masks)):
        if not folder.is_dir():
            raise CrackError(
                f"folder {folder} {'is a file' if folder.exists() else 'does not exist'}"
            )
    for photo_folder, mask_folder in _folders(Path(images), Path(masks)):
        _pair_folders(photo_folder, mask_folder, pairing)
    if not (pairing.pairs or pairing.photos_without_mask or pairing.unreadable):
        raise CrackError(
            f"{images} holds no photos ({', '.join(PHOTO_EXTENSIONS)}), neither directly nor in "
            "one of the known layouts; see --help"
        )
    pairing.pairs.sort(key=lambda pair: pair.file_name)
    return pairing


def _folders(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    found = [
        (images / photo_part, masks / mask_part)
        for photo_part, mask_part in _LAYOUTS
        if (images / photo_part).is_dir() and (masks / mask_part).is_dir()
    ]
    return found or [(images, masks)]


def _pair_folders(photo_folder: Path, mask_folder: Path, pairing: Pairing) -> None:
    photo_files = _list(photo_folder, PHOTO_EXTENSIONS, pairing)
    if photo_folder.resolve() == mask_folder.resolve():
        mask_files = _list(mask_folder, MASK_EXTENSIONS, pairing) if photo_files else []
        mask_files = _masks_among(mask_files, {_stem(path) for path in photo_files})
        photo_files = sorted(set(photo_files) - set(mask_files))
    else:
        mask_files = _list(mask_folder, MASK_EXTENSIONS, pairing)
    photos = _by_stem(photo_files, "photos", _stem)
    masks = _by_stem(mask_files, "masks", partial(_owner, photos=photos))
    below = photo_folder.relative_to(pairing.image_root)
    for stem, photo in photos.items():
        if stem in masks:
            name = (below / os.path.basename(photo)).as_posix()
            pairing.pairs.append(Pair(photo, masks[stem], name))
        else:
            pairing.photos_without_mask.append(photo)
    pairing.masks_without_photo += [path for stem, path in masks.items() if stem not in photos]


def _list(folder: Path, extensions: tuple[str, ...], pairing: Pairing) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        entry = (os.fspath(folder), error.strerror or str(error))
        if entry not in pairing.unreadable:
            pairing.unreadable.append(entry)
        return []
    return [
        os.path.join(folder, name)
        for name in names
        if name.lower().endswith(extensions) and not name.startswith(".")
    ]


def _stem(path: str) -> str:
    return _without_extensions(os.path.basename(path))


def _without_extensions(name: str) -> str:
    """A name without its extensions, also where one stands twice (``a.jpg.jpg``)."""
    while name.lower().endswith(MASK_EXTENSIONS) and os.path.splitext(name)[1]:
        name = os.path.splitext(name)[0]
    return name


def _without_suffix(stem: str) -> str:
    """A mask's stem without what makes it a mask's (``a_mask``, ``a.jpg_mask``)."""
    return _without_extensions(MASK_SUFFIX.sub("", stem))


def _masks_among(paths: Iterable[str], stems: set[str]) -> list[str]:
    """Those files of a folder with photos and masks that are masks of another file there."""
    return [
        path
        for path in paths
        if path.lower().endswith(".mat")
        or (MASK_SUFFIX.search(_stem(path)) and _without_suffix(_stem(path)) in stems)
    ]


def _owner(path: str, photos: dict[str, str]) -> str:
    """The photo's stem that a mask's name means: the same, or without its mask suffix."""
    stem = _stem(path)
    return stem if stem in photos else _without_suffix(stem)


def _by_stem(paths: Iterable[str], kind: str, stem_of: Callable[[str], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        stem = stem_of(path)
        if stem in found:
            raise CrackError(
                f"two {kind} are called {stem}: {found[stem]} and {path}; rename or remove one"
            )
        found[stem] = path
    return found
