"""Which mask belongs to which photo."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import CrackError
from ..photos import PHOTO_SUFFIXES

MASK_SUFFIXES = (*PHOTO_SUFFIXES, ".mat")

_MASK_WORDS = "masks?|labels?|lab|gt|ground_?truth"
# Parts of folder names that say what lies in a folder, and not which set it belongs to.
_PHOTO_FOLDER = re.compile(r"(^|[_-])((jpeg)?images?|imgs?|photos?)$", re.IGNORECASE)
_MASK_FOLDER = re.compile(rf"(^|[_-])({_MASK_WORDS}|annotations?|segmentation\w*)$", re.IGNORECASE)
_MASK_ENDING = re.compile(rf"[_-]({_MASK_WORDS})([_-]?\d{{1,3}})?$", re.IGNORECASE)
_NUMBER_ENDING = re.compile(r"[_-]\d{1,3}$")

Key = tuple[str, str]  # folder and stem, without the words that tell photos from masks


@dataclass(frozen=True, slots=True)
class Pair:
    """A photo and its masks. Plain strings: there may be hundreds of thousands.

    Attributes:
        photo: path of the photo.
        masks: paths of its masks, which are united; none for a photo that counts as crack-free.
        file_name: the photo relative to the image root, with forward slashes.
    """

    photo: str
    masks: tuple[str, ...]
    file_name: str

    @property
    def stem(self) -> str:
        """The photo's name without folder and extensions."""
        return stem_of(self.photo)


@dataclass
class Pairing:
    """The pairs in order of `file_name`, and everything that is not in them.

    Attributes:
        photos_without_mask, masks_without_photo: paths.
        unreadable: folders that could not be listed, with the reason.
        other_files: how many files of each ending are neither photo nor mask.
    """

    pairs: list[Pair] = field(default_factory=list)
    photos_without_mask: list[str] = field(default_factory=list)
    masks_without_photo: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    other_files: Counter[str] = field(default_factory=Counter)


def pair_files(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    mask_pattern: str = "",
    without_mask: str = "leave-out",
) -> Pairing:
    """Pair the photos below ``images`` with the masks below ``masks``, subfolders included.

    A photo and a mask belong together when their folders and their names agree, apart from words
    that say what a file is: ``train_img/a.jpg`` and ``train_lab/a_mask.png``. Both folders may be
    one and the same; masks are then told by such a word.

    Args:
        images, masks: the two folders.
        mask_pattern: what masks are called, e.g. "mask_{stem}" or "{stem}_*"; "" for the usual
            names: the photo's, with or without an ending such as ``_mask`` or ``_mask_2``.
        without_mask: "leave-out" lists photos without a mask, "crack-free" takes them as such.

    Raises:
        CrackError: a folder is missing or holds no photos, two photos claim one name, the pattern
            lacks ``{stem}``, or nothing matches.
    """
    pairing = Pairing()
    photo_files, mask_files = _list_both(Path(images), Path(masks), mask_pattern, pairing)
    other = describe_other_files(pairing.other_files)
    if not photo_files and not pairing.unreadable:
        raise CrackError(
            f"{images} holds no photos ({', '.join(PHOTO_SUFFIXES)})"
            + "".join(map("; {}".format, other))
        )
    photos = _by_key(images, photo_files)
    owned, pairing.masks_without_photo = _owned(masks, mask_files, photos, mask_pattern)
    for key, photo in photos.items():
        if key in owned or without_mask == "crack-free":
            name = Path(os.path.relpath(photo, images)).as_posix()
            pairing.pairs.append(Pair(photo, tuple(owned.get(key, ())), name))
        else:
            pairing.photos_without_mask.append(photo)
    if not owned and not pairing.unreadable and without_mask != "crack-free":
        raise CrackError(_no_pair(photo_files, mask_files, images, masks, other))
    pairing.pairs.sort(key=lambda pair: pair.file_name)
    return pairing


def list_files(
    folder: Path, suffixes: tuple[str, ...], pairing: Pairing, leave_out: Path | None = None
) -> list[str]:
    """Paths of all files below a folder with one of these endings, sorted.

    Hidden files and folders are passed over; other endings and unreadable folders are noted in
    ``pairing``.

    Args:
        leave_out: a folder below that is not entered.

    Raises:
        CrackError: the folder does not exist.
    """
    if not folder.is_dir():
        raise CrackError(f"folder {folder} {'is a file' if folder.exists() else 'does not exist'}")
    found = []
    for path in _walk(folder, pairing, set(), leave_out and leave_out.resolve()):
        if path.lower().endswith(suffixes):
            found.append(path)
        else:
            pairing.other_files[os.path.splitext(path)[1].lower() or "no ending"] += 1
    return sorted(found)


def _walk(
    folder: Path, pairing: Pairing, visited: set[Path], leave_out: Path | None
) -> Iterator[str]:
    """Paths of the files below a folder; a folder that several links lead to is read once."""
    here = folder.resolve()
    if here in visited or here == leave_out:
        return
    visited.add(here)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        pairing.unreadable.append((os.fspath(folder), error.strerror or str(error)))
        return
    for entry in entries:
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), pairing, visited, leave_out)
        else:
            yield entry.path


def describe_other_files(other_files: Counter[str]) -> list[str]:
    """One phrase for each ending: how many files were not read, and the remedy if there is one."""
    heif = (".heic", ".heif")
    return [
        f"{count} file{'s' * (count > 1)} of kind {ending} {'were' if count > 1 else 'was'} not "
        f"read{': install pillow-heif' if ending in heif else ''}"
        for ending, count in sorted(other_files.items())
    ]


def stem_of(path: str) -> str:
    """A file's name without extensions, also where one stands twice (``a.jpg.jpg``)."""
    return _without_extensions(os.path.basename(path))


def _without_extensions(name: str) -> str:
    while name.lower().endswith(MASK_SUFFIXES) and os.path.splitext(name)[1]:
        name = os.path.splitext(name)[0]
    return name


def _list_both(
    images: Path, masks: Path, mask_pattern: str, pairing: Pairing
) -> tuple[list[str], list[str]]:
    """The files of photos and of masks; in one folder, masks are told by folder or name."""
    if images.exists() and images.resolve() == masks.resolve():
        paths = list_files(images, MASK_SUFFIXES, pairing)
        mask_files = _masks_among(images, paths, mask_pattern)
        return sorted(set(paths) - set(mask_files)), mask_files
    photo_files = list_files(images, PHOTO_SUFFIXES, pairing, leave_out=masks)
    return photo_files, list_files(masks, MASK_SUFFIXES, pairing, leave_out=images)


def _masks_among(root: Path, paths: list[str], mask_pattern: str) -> list[str]:
    stems = {(os.path.dirname(path), stem_of(path)) for path in paths}

    def is_mask(path: str) -> bool:
        folder, stem = os.path.dirname(path), stem_of(path)
        if path.lower().endswith(".mat"):
            return True
        if any(_MASK_FOLDER.search(part) for part in Path(os.path.relpath(folder, root)).parts):
            return True
        names = _photo_stems(stem, mask_pattern)
        return any((folder, name) in stems for name in names if name != stem)

    return [path for path in paths if is_mask(path)]


def _without_ending(stem: str) -> str:
    """A mask's stem without what makes it a mask's (``a_mask``, ``a.jpg_mask``, ``a_mask_2``)."""
    return _without_extensions(_MASK_ENDING.sub("", stem))


def _photo_stems(stem: str, mask_pattern: str) -> list[str]:
    """The stems of photos that a mask's stem may mean, the longest first."""
    if not mask_pattern:
        return [stem, _without_ending(stem)]
    if mask_pattern.count("{stem}") != 1:
        raise CrackError(f"--mask-pattern {mask_pattern!r} must hold {{stem}} once: mask_{{stem}}")
    before, after = mask_pattern.split("{stem}")
    places = range(len(stem) + 1)
    starts = [i for i in places if fnmatchcase(stem[:i], before)]
    ends = [i for i in places if fnmatchcase(stem[i:], _without_extensions(after))]
    names = [stem[start:end] for start in starts for end in ends if start < end]
    return sorted(names, key=len, reverse=True)


def _key(root: str | os.PathLike[str], path: str, word: re.Pattern[str], stem: str) -> Key:
    """Folder and stem that a photo and its mask have in common, in one Unicode spelling."""
    folders = Path(os.path.relpath(os.path.dirname(path), root)).parts
    common = "/".join(filter(None, (word.sub("", folder) for folder in folders)))
    return unicodedata.normalize("NFC", common), unicodedata.normalize("NFC", stem)


def _by_key(images: str | os.PathLike[str], paths: Iterable[str]) -> dict[Key, str]:
    photos: dict[Key, str] = {}
    for path in paths:
        key = _key(images, path, _PHOTO_FOLDER, stem_of(path))
        if key in photos:
            raise CrackError(
                f"two photos are called {key[1]}: {photos[key]} and {path}; rename or remove one"
            )
        photos[key] = path
    return photos


def _owned(
    masks: str | os.PathLike[str], paths: list[str], photos: dict[Key, str], mask_pattern: str
) -> tuple[dict[Key, list[str]], list[str]]:
    """The masks of each photo, and the masks of none."""
    owned: defaultdict[Key, list[str]] = defaultdict(list)
    numbered: defaultdict[Key, list[str]] = defaultdict(list)
    lonely = []
    for path in paths:
        stem = stem_of(path)
        names = _photo_stems(stem, mask_pattern)
        keys = [_key(masks, path, _MASK_FOLDER, name) for name in names]
        by_number = _key(masks, path, _MASK_FOLDER, _NUMBER_ENDING.sub("", stem))
        found = next((key for key in keys if key in photos), None)
        if found:
            owned[found].append(path)
        elif not mask_pattern and by_number in photos:
            numbered[by_number].append(path)
        else:
            lonely.append(path)
    for key, found_masks in numbered.items():
        if key in owned:  # a mask of its own: the numbers mean other photos
            lonely += found_masks
        else:
            owned[key] = found_masks
    return dict(owned), sorted(lonely)


def _no_pair(
    photos: list[str], masks: list[str], images: str | os.PathLike[str],
    mask_folder: str | os.PathLike[str], other: list[str],
) -> str:  # fmt: skip
    def some(paths: list[str], folder: str | os.PathLike[str]) -> str:
        names = [os.path.relpath(path, folder) for path in paths[:3]]
        return ", ".join(names) + f" and {len(paths) - 3} more" * (len(paths) > 3) or "none"

    return (
        f"no usable pair: none of the photos in {images} ({some(photos, images)}) has a mask in "
        f"{mask_folder} ({some(masks, mask_folder)}{''.join(map('; {}'.format, other))}); a mask "
        f"ends in one of {', '.join(MASK_SUFFIXES)} and is called as its photo, or as "
        "--mask-pattern says, e.g. mask_{stem}; drawn labels are read by --labels"
    )
