"""Which mask belongs to which photo."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import CrackError
from ..storage import HEIF_SUFFIXES, PHOTO_SUFFIXES, count_kinds

_SUFFIXES = (*PHOTO_SUFFIXES, ".mat")  # of photos and masks
MASK_SUFFIXES = tuple(x for x in _SUFFIXES if x not in HEIF_SUFFIXES)

_MASK_WORDS = "masks?|labels?|lab|gt|ground_?truth"
# Parts of folder names that say what lies in a folder, and not which set it belongs to.
_PHOTO_FOLDER = re.compile(r"(^|[_-])((jpeg)?images?|imgs?|photos?)$", re.IGNORECASE)
_MASK_FOLDER = re.compile(rf"(^|[_-])({_MASK_WORDS}|annotations?|segmentation\w*)$", re.IGNORECASE)
_MASK_ENDING = re.compile(rf"[_-]({_MASK_WORDS})([_-]?\d{{1,3}})?$", re.IGNORECASE)
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_HIDDEN = (".", "__MACOSX")
# What labelling tools add to a photo's name: a server or a query, Label Studio's upload number.
_NUMBER = re.compile(r"[_-]\d{1,3}$")
_URL = re.compile(r"^\w+://[^/]*|[?#].*$")
_UPLOAD = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]*$)")


@dataclass(slots=True)
class PairRecord:
    """A photo with its masks or drawn labels, and what became of them."""

    photo: str  # path
    file_name: str  # relative to the image root
    masks: tuple[str, ...] = ()  # paths, which are united; none for labels and crack-free photos
    labels: list[Any] = field(default_factory=list, compare=False, repr=False)  # `Label`s
    width: int = 0  # of the upright photo, px; 0 where it could not be read
    height: int = 0
    annotations: list[str] = field(default_factory=list)  # JSON objects, see `coco.annotation`
    instances: int = 0  # how many of them are cracks
    repeated: int = 0  # annotations equal to another of the photo, left out
    empty: int = 0  # labels that cover no pixel, left out
    crack_area: int = 0  # px
    coverage: float = 0.0  # percent of the photo
    mean_width: float = 0.0  # px
    flags: dict[str, float] = field(default_factory=dict)  # see `checks.FLAGS`
    photo_hash: int = 0  # perceptual hash, where there are splits
    values: list[Any] = field(default_factory=list, compare=False, repr=False)  # `ValueCounts`
    error: str = ""  # why the pair is unusable
    split: str = ""
    left_out: str = ""  # why a fine pair is not in the JSON


@dataclass
class Pairing:
    """The photos to use in order of `file_name`, and everything that is not in them."""

    records: list[PairRecord] = field(default_factory=list)
    photos_without_mask: list[str] = field(default_factory=list)
    masks_without_photo: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # and the rest of a sentence
    other_files: Counter[str] = field(default_factory=Counter)  # neither photo nor mask, by ending
    other_labels: Counter[str] = field(default_factory=Counter)  # left out, by category


def pair_files(
    images: Path, masks: Path, mask_pattern: str = "", without_mask: str = "leave-out"
) -> Pairing:
    """Pair the photos below ``images`` with the masks below ``masks``, subfolders included.

    They belong together when their folders and names agree, apart from words that say what a file
    is (``train_img/a.jpg``, ``train_lab/a_mask.png``), or as ``mask_pattern`` says, e.g.
    "mask_{stem}" or "{stem}_*". A `CrackError` where nothing matches.
    """
    if mask_pattern and mask_pattern.count("{stem}") != 1:
        raise CrackError(f"--mask-pattern {mask_pattern!r} must hold {{stem}} once: mask_{{stem}}")
    pairing = Pairing()
    photo_files, mask_files = _list_both(images, masks, mask_pattern, pairing)
    other = f"; not read: {count_kinds(pairing.other_files)}" if pairing.other_files else ""
    if not photo_files and not pairing.unreadable:
        raise CrackError(f"{images} holds no photos ({', '.join(PHOTO_SUFFIXES)}){other}")
    photos: dict[str, str] = {}
    for path in photo_files:
        key = _key(images, path, _PHOTO_FOLDER, stem_of(path))
        if photos.setdefault(key, path) != path:
            raise CrackError(
                f"two photos are called {os.path.basename(key)}: {photos[key]} and {path}; rename "
                "or remove one"
            )
    owned, pairing.masks_without_photo = _owned(masks, mask_files, photos, mask_pattern)
    crack_free = without_mask == "crack-free"
    for key, photo in photos.items():
        if key in owned or crack_free:
            name = os.path.relpath(photo, images)
            pairing.records.append(PairRecord(photo, name, tuple(owned.get(key, ()))))
        else:
            pairing.photos_without_mask.append(photo)
    if not (owned or pairing.unreadable or (crack_free and not mask_files)):
        raise CrackError(
            f"no usable pair: none of the photos in {images} ({_some(photo_files, images)}) has a "
            f"mask in {masks} ({_some(mask_files, masks)}{other}); a mask ends in one of "
            f"{', '.join(MASK_SUFFIXES)} and is called as its photo, or as --mask-pattern says, "
            "e.g. mask_{stem}; drawn labels are read by --labels"
        )
    pairing.records.sort(key=lambda record: record.file_name)
    return pairing


def _some(paths: list[str], folder: Path) -> str:
    names = [os.path.relpath(path, folder) for path in paths[:3]]
    return ", ".join(names) + f" and {len(paths) - 3} more" * (len(paths) > 3) or "none"


def list_files(
    folder: Path, suffixes: tuple[str, ...], pairing: Pairing, leave_out: Path | None = None
) -> list[str]:
    """Sorted paths of the files below a folder with these endings; ``pairing`` notes the others."""
    if not folder.is_dir():
        raise CrackError(f"{folder} does not exist, or is no folder")

    def note(error: OSError) -> None:
        pairing.unreadable.append((error.filename, f"cannot be read: {error.strerror}"))

    found = []
    root = folder.resolve()
    left_out = leave_out.resolve() if leave_out else None
    visited = {left_out}  # of several links one is followed
    for here, folders, names in os.walk(folder, onerror=note, followlinks=True):
        place = Path(here).resolve()
        again = os.path.islink(here) and place != root and place.is_relative_to(root)
        if again:  # by its own name, unless that is passed over
            hidden = any(x.startswith(_HIDDEN) for x in place.relative_to(root).parts)
            again = not hidden and not (left_out and place.is_relative_to(left_out))
        if place in visited or again:
            folders.clear()
            continue
        visited.add(place)
        folders[:] = sorted(x for x in folders if not x.startswith(_HIDDEN))
        for name in (x for x in names if not x.startswith(_HIDDEN)):
            path = os.path.join(here, name)
            if os.path.exists(path) and not os.path.isfile(path):  # to read one is to wait
                pairing.other_files["pipe or device"] += 1
            elif name.lower().endswith(suffixes):
                found.append(path)
            else:
                pairing.other_files[os.path.splitext(name)[1].lower() or "without ending"] += 1
    return sorted(found)


def stem_of(path: str) -> str:
    """A file's name without extensions, also where one stands twice (``a.jpg.jpg``)."""
    name = os.path.basename(path)
    while name.lower().endswith(_SUFFIXES) and os.path.splitext(name)[1]:
        name = os.path.splitext(name)[0]
    return name


def _list_both(
    images: Path, masks: Path, mask_pattern: str, pairing: Pairing
) -> tuple[list[str], list[str]]:
    """The files of photos and of masks; in one folder, masks are told by folder or name."""
    if images.resolve() != masks.resolve():
        photo_files = list_files(images, PHOTO_SUFFIXES, pairing, leave_out=masks)
        return photo_files, list_files(masks, MASK_SUFFIXES, pairing, leave_out=images)
    paths = list_files(images, _SUFFIXES, pairing)
    places = {path: (os.path.dirname(path), stem_of(path)) for path in paths}
    stems = set(places.values())

    def is_mask(path: str) -> bool:
        folder, stem = places[path]
        parts = Path(os.path.relpath(folder, images)).parts
        if path.lower().endswith(".mat") or any(map(_MASK_FOLDER.search, parts)):
            return True
        return any((folder, x) in stems for x in _photo_stems(stem, mask_pattern) if x != stem)

    mask_files = list(filter(is_mask, paths))
    if not mask_files:  # as in CRACK500: a.png is the mask of a.jpg
        jpegs = {places.pop(path) for path in paths if path.lower().endswith(_JPEG)}
        mask_files = [path for path, place in places.items() if place in jpegs]
    return sorted(set(paths) - set(mask_files)), mask_files


def _photo_stems(stem: str, mask_pattern: str) -> list[str]:
    """The stems of photos that a mask's stem may mean, the longest first."""
    if not mask_pattern:  # a_mask, a.jpg_mask, a_mask_2
        return [stem, stem_of(_MASK_ENDING.sub("", stem))]
    before, after = stem_of(mask_pattern).split("{stem}")
    starts = [i for i in range(len(stem)) if fnmatchcase(stem[:i], before)]
    ends = [i for i in range(len(stem) + 1) if fnmatchcase(stem[i:], after)]
    names = [stem[start:end] for start in starts for end in ends if start < end]
    return sorted(names, key=len, reverse=True)


def _key(root: Path, path: str, word: re.Pattern[str], stem: str) -> str:
    """Folders and stem that a photo and its mask have in common, in one Unicode spelling."""
    folders = Path(os.path.relpath(os.path.dirname(path), root)).parts
    common = [*filter(None, (word.sub("", folder) for folder in folders)), stem]
    return unicodedata.normalize("NFC", "/".join(common))


def _joined_number(ending: re.Match[str]) -> str:
    """Of an ending such as "_mask_2" the number with its separator; "" for "_mask" and "_mask2"."""
    number = ending[2] or ""
    return "" if number.isdecimal() else number


def _owned(
    masks: Path, paths: list[str], photos: dict[str, str], mask_pattern: str
) -> tuple[dict[str, list[str]], list[str]]:
    """The masks of each photo, and the masks of none."""
    owned: defaultdict[str, list[str]] = defaultdict(list)
    numbered: defaultdict[str, list[str]] = defaultdict(list)
    lonely = []
    # Names that photos themselves have with numbers: then masks' numbers are those of photos.
    series = {name for key in photos if (name := _NUMBER.sub("", key)) != key}
    named: dict[str, str | None] = {}  # the photo that each mask is called as
    for path in paths:
        stems = _photo_stems(stem_of(path), mask_pattern)
        keys = [_key(masks, path, _MASK_FOLDER, name) for name in stems]
        named[path] = next((key for key in keys if key in photos), None)
    whole = set(named.values())
    for path, found in named.items():
        stem = stem_of(path)
        # a_mask_2 is a_2's where that is a photo without a mask of its own name
        others = (_MASK_ENDING.sub(_joined_number, stem), _NUMBER.sub("", stem))
        joined, by_number = (_key(masks, path, _MASK_FOLDER, name) for name in others)
        if not mask_pattern and joined in photos and joined not in whole:
            owned[joined].append(path)
        elif found:
            owned[found].append(path)
        elif not mask_pattern and by_number in photos and by_number not in series:
            numbered[by_number].append(path)
        else:
            lonely.append(path)
    for key in numbered.keys() & owned.keys():  # a mask of its own: the numbers mean other photos
        lonely += numbered.pop(key)
    return owned | numbered, sorted(lonely)


def match_names(wanted: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Which of the photos ``names`` each name in label files means; None where none or several."""
    known, fitting = set(names), defaultdict(set)
    for name in names:
        for key in _spellings(name):
            fitting[key].add(name)
    times = Counter(key for name in set(wanted) for key in set(_spellings(name)))

    def match(name: str) -> str | None:
        keys = (key for key in _spellings(name) if times[key] == 1 == len(fitting.get(key, ())))
        return name if name in known else next((min(fitting[key]) for key in keys), None)

    return list(map(match, wanted))


def _spellings(name: str) -> Iterator[str]:
    """What a photo's name may be called, nearest first: with fewer and fewer folders, and so on."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    forms = [name, unquote(_URL.sub("", name.rpartition("?d=")[2]))]
    forms += [_UPLOAD.sub(r"\1", form) for form in forms]
    forms += [os.path.join(os.path.dirname(form), stem_of(form)) for form in forms]
    for form in dict.fromkeys(forms):
        *folders, last = form.split("/")
        folders = [_PHOTO_FOLDER.sub("", _MASK_FOLDER.sub("", folder)) for folder in folders]
        parts = [*filter(None, folders), last]
        yield from ("/".join(parts[start:]) for start in range(len(parts)))
