"""Which photos the labels drawn in other tools belong to, and which labels are cracks."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import CrackError
from ..photos import PHOTO_SUFFIXES
from .label_formats import Label, LabelEntry, read_entries
from .pairing import Pairing, list_files, stem_of

# Label Studio puts this before the name of an uploaded file.
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")


@dataclass
class LabelledPhoto:
    """A photo with its labels.

    Attributes:
        photo: path; file_name: relative to the image root, with forward slashes.
        size: width and height in px that the labels are meant for, None where they do not say.
    """

    photo: str
    file_name: str
    labels: list[Label] = field(default_factory=list)
    size: tuple[int, int] | None = None

    @property
    def stem(self) -> str:
        """The photo's name without folder and extensions."""
        return stem_of(self.photo)


@dataclass
class LabelledSet(Pairing):
    """The photos with labels, and everything that is not used.

    Attributes:
        photos: in order of `file_name`.
        other_labels: how many labels of each category were left out.
    """

    photos: list[LabelledPhoto] = field(default_factory=list)
    other_labels: Counter[str] = field(default_factory=Counter)


def read_labels(
    path: Path, images: Path, categories: Sequence[str] = (), without_labels: str = "leave-out"
) -> LabelledSet:
    """Read all labels of a file or a folder, and find their photos.

    Args:
        path: a COCO or labelme JSON, or a folder of such files or of YOLO's text files.
        images: folder of the photos, subfolders included.
        categories: those that are cracks, in any case; empty: the only one, or "crack".
        without_labels: "leave-out" lists photos of which no file speaks, "crack-free" takes them.

    Raises:
        CrackError: a file cannot be read or understood, no photo is found, or there are several
            categories and none is called crack.
    """
    found = LabelledSet()
    entries = list(read_entries(path))
    chosen = _choose_categories(path, entries, categories)
    photos = _PhotoNames(images, list_files(images, PHOTO_SUFFIXES, found))
    used: dict[str, LabelledPhoto] = {}
    for entry in entries:
        photo = photos.find(entry.name)
        if photo is None:
            found.masks_without_photo.append(f"{entry.name} ({path})")
            continue
        name = Path(os.path.relpath(photo, images)).as_posix()
        labelled = used.setdefault(photo, LabelledPhoto(photo, name, size=entry.size))
        for label in entry.labels:
            if label.category.casefold() in chosen:
                labelled.labels.append(label)
            else:
                found.other_labels[label.category] += 1
    if not used:
        raise CrackError(
            f"none of the {len(entries)} photos that {path} labels ("
            f"{', '.join(entry.name for entry in entries[:3])}) is among the {len(photos.paths)} "
            f"in {images} ({', '.join(photos.names[:3])})"
        )
    rest = [photo for photo in photos.paths if photo not in used]
    if without_labels == "crack-free":
        used |= {p: LabelledPhoto(p, Path(os.path.relpath(p, images)).as_posix()) for p in rest}
    else:
        found.photos_without_mask = rest
    found.photos = sorted(used.values(), key=lambda photo: photo.file_name)
    return found


class _PhotoNames:
    """Finds photos by the names that label files give them."""

    def __init__(self, images: Path, paths: list[str]) -> None:
        self.paths = paths
        self.names = [Path(os.path.relpath(path, images)).as_posix() for path in paths]
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path, name in zip(paths, self.names, strict=True):
            pure = PurePosixPath(name)
            bare = str(pure.with_suffix(""))
            for key in {name, bare, pure.name, pure.stem}:
                self._by_name[key].append(path)

    def find(self, name: str) -> str | None:
        """The photo that a name means: with or without folders, ending and upload number."""
        pure = PurePosixPath(name.replace("\\", "/"))
        short = _UPLOAD.sub("", pure.name)
        for key in (str(pure), pure.name, short, pure.stem, PurePosixPath(short).stem):
            if len(self._by_name.get(key, ())) == 1:
                return self._by_name[key][0]
        return None


def _choose_categories(path: Path, entries: list[LabelEntry], wanted: Sequence[str]) -> set[str]:
    times = Counter(label.category for entry in entries for label in entry.labels)
    known = {category.casefold() for category in times}
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(times.items()))
    missing = [name for name in wanted if name.casefold() not in known]
    if missing:
        raise CrackError(f"{path} has no labels of category {missing[0]}; it has {listed}")
    if wanted:
        return {name.casefold() for name in wanted}
    if len(known) <= 1:
        return known
    if "crack" in known:
        return {"crack"}
    raise CrackError(f"{path} has labels of {listed}; say which are cracks with --category")
