"""Labels drawn in other tools, COCO JSON, labelme JSON or YOLO-seg text, and their photos."""

import base64
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError

from ..annotations import CRACK_NAMES, Label, annotated_photos, check_coco, read_json
from ..errors import CrackError, as_crack_error
from ..segmentation import Record, numbers_of, points_of
from ..storage import PHOTO_SUFFIXES
from .cleaning import ByteMask
from .pairing import Pairing, PairRecord, list_files, match_names

_LABEL_SUFFIXES = (".json", ".txt")
_YOLO_YAML = re.compile(r"(?ms)(?=.*^names\s*:).*^(train|val|test|path|nc)\s*:")

# A photo's name in a label file, another by which it may be found, and its labels.
Entry = tuple[str, str, list[Label]]


def read_labels(
    path: Path, images: Path, categories: Sequence[str] = (), without_labels: str = "leave-out"
) -> Pairing:
    """Read all labels of a COCO or labelme JSON, or a folder of such or of YOLO's text files.

    The ``categories`` are those that are cracks, in any case; empty: the only one, or "crack".
    With ``without_labels`` "crack-free" photos of which no file speaks are taken as such.
    """
    found = Pairing()
    names = {os.path.relpath(photo, images): photo for photo in _list_photos(images, path, found)}
    declared: set[str] = set()  # categories that the files list, with labels or without
    entries = list(_read_entries(path, list(names), found, declared))
    chosen = _choose_categories(path, entries, categories, declared)
    first = match_names([name for name, _, _ in entries], list(names))
    second = match_names([other for _, other, _ in entries], list(names))
    used: dict[str, PairRecord] = {}
    for (stated, _, labels), one, other in zip(entries, first, second, strict=True):
        name, faults = one or other, [x.file_fault for x in labels if x.file_fault]
        if name is None:
            found.unreadable += [(stated, f"cannot be used: {fault}") for fault in faults]
            found.masks_without_photo += [] if faults else [f"{stated} ({path})"]
            continue
        record = used.setdefault(name, PairRecord(names[name], name))
        for label in labels:
            if faults or label.category.casefold() in chosen:
                record.labels.append(label)
            else:
                found.other_labels[label.category] += 1
    if not (used or found.unreadable):
        labelled = ", ".join(entry[0] for entry in entries[:3])
        raise CrackError(
            f"none of the {len(entries)} photos that {path} labels ({labelled}) is among the "
            f"{len(names)} in {images} ({', '.join([*names][:3])})"
        )
    for name, photo in names.items():
        if name not in used and without_labels == "crack-free":
            used[name] = PairRecord(photo, name)
        elif name not in used:
            found.photos_without_mask.append(photo)
    found.records = sorted(used.values(), key=lambda record: record.file_name)
    return found


def _list_photos(images: Path, labels: Path, found: Pairing) -> Iterator[str]:
    """The photos below a folder; other files there are counted, but for the labels among them."""
    for file in list_files(images, (*PHOTO_SUFFIXES, *_LABEL_SUFFIXES), found):
        suffix, place = os.path.splitext(file)[1].lower(), Path(file).resolve()
        if suffix in PHOTO_SUFFIXES:
            yield file
        elif labels.resolve() not in (place, *place.parents):
            found.other_files[suffix] += 1


def _choose_categories(
    path: Path, entries: list[Entry], wanted: Sequence[str], declared: set[str]
) -> set[str]:
    times = Counter(x.category for *_, labels in entries for x in labels if not x.file_fault)
    known = {category.casefold() for category in times}
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(times.items())) or "none"
    faults = [x.file_fault for *_, labels in entries for x in labels if x.file_fault]
    listed += "".join(f"; besides, {fault}" for fault in faults[:1])
    for name in wanted:
        if name.casefold() not in known:
            raise CrackError(f"{path} has no labels of category {name}; it has {listed}")
    usual = known & set(CRACK_NAMES) if len(known) > 1 else known
    if len(known) == 1 and not known & set(CRACK_NAMES):  # of another kind where crack is listed
        usual = {name.casefold() for name in declared} & set(CRACK_NAMES) or known
    if known and not (wanted or usual):
        raise CrackError(f"{path} has labels of {listed}; say which are cracks with --category")
    return {name.casefold() for name in wanted} or usual


def _read_entries(
    path: Path, photos: list[str], found: Pairing, declared: set[str]
) -> Iterator[Entry]:
    """Read a label file, or all that a folder holds; of text files, those named as photos are."""
    if path.is_file():
        yield from _read_json(path, path.parent, declared)
        return
    noted = Pairing(unreadable=found.unreadable)
    files = [Path(name) for name in list_files(path, _LABEL_SUFFIXES, noted)]
    if not files:
        raise CrackError(f"--labels {path} holds neither .json (COCO, labelme) nor .txt (YOLO)")
    jsons = [file for file in files if file.suffix.lower() == ".json"]
    if jsons:
        found.other_files.update([".txt"] * (len(files) - len(jsons)))
    classes = {} if jsons else _yolo_names(path)
    declared.update(classes.values())
    used = jsons or files
    names = [file.relative_to(path).with_suffix("").as_posix() for file in used]
    for file, name, photo in zip(used, names, match_names(names, photos), strict=True):
        try:
            if jsons:
                yield from list(_read_json(file, path, declared))
            elif photo:
                yield name, "", list(_read_yolo(file, classes))
            elif file.stem not in ("classes", "train", "val", "valid", "test"):  # lists beside them
                yield name, "", []
        except CrackError as error:  # stands for the file, so that the rest can be used
            yield name, "", [Label("", "", file_fault=str(error))]


def _read_json(path: Path, root: Path, declared: set[str]) -> Iterator[Entry]:
    """The photos of a COCO or labelme JSON; of the latter, shapes of one group are one label."""
    content, folder = read_json(path), path.relative_to(root).parent
    if not (isinstance(content, dict) and isinstance(content.get("shapes"), list)):
        photos = annotated_photos(path, check_coco(path, content))
        names = [str(row.get("name")).strip() for row in content["categories"]]
        kinds = [str(row.get("supercategory")).strip() for row in content["categories"]]
        groups_of = {kind for name, kind in zip(names, kinds, strict=True) if kind != name}
        declared.update(name for name in names if name not in groups_of)  # as Roboflow's first
        for photo in photos:
            yield (folder / photo.file_name).as_posix(), photo.file_name, photo.labels
        return
    stated = str(content.get("imagePath") or path.stem).replace("\\", "/")
    beside = (folder / (PurePosixPath(stated).name or path.stem)).as_posix()
    groups: dict[tuple[str, Any], list[Record]] = {}
    with as_crack_error(f"{path} cannot be used"):
        for number, shape in enumerate(content["shapes"]):
            group = shape.get("group_id")
            name = str(shape.get("label")).strip().casefold()
            key = (name, ("alone", number) if group is None else group)
            groups.setdefault(key, []).append(shape | {"where": f"shape {number} of {path}"})
        width, height = (int(content.get(x) or 0) for x in ("imageWidth", "imageHeight"))
        size = (width, height) if min(width, height) > 0 else None
        labels = [_labelme_label(x, size) for x in groups.values()]
    yield stated if "/" in stated else beside, beside, labels


def _labelme_label(pieces: list[Record], size: tuple[int, int] | None) -> Label:
    category = str(pieces[0].get("label")).strip()
    areas: list[Any] = []
    lines: list[Any] = []
    patches: list[tuple[ByteMask, int, int]] = []
    for piece in pieces:
        try:
            kind, points = piece.get("shape_type") or "polygon", points_of(piece["points"])
            if kind in ("line", "linestrip"):
                lines += pairwise(points)
            elif kind == "rectangle" and len(points) == 2:
                (left, top), (right, bottom) = points
                areas.append([[left, top], [right, top], [right, bottom], [left, bottom]])
            elif kind == "circle" and len(points) == 2:
                radius = float(np.hypot(points[1][0] - points[0][0], points[1][1] - points[0][1]))
                angles = np.arange(64) * (2 * np.pi / 64)
                around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + points[0]
                areas.append(around.tolist())
            elif kind == "mask":
                data = io.BytesIO(base64.b64decode(piece["mask"]))
                pixels = np.asarray(Image.open(data, formats=("PNG",)).convert("L"))
                left, top = (round(value) for value in points[0])
                patches.append(((pixels > 0).astype(np.uint8), left, top))
            elif kind in ("polygon", "rectangle", "oriented_rectangle") and len(points) > 2:
                areas.append(points)
            else:
                raise ValueError(f"is a {kind} of {len(points)} points, which draws no crack")
        except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
            fault = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            if isinstance(error, UnidentifiedImageError):  # whose text differs from run to run
                fault = "has a mask that is no PNG"
            return Label(piece["where"], category, fault=fault)
    return Label(pieces[0]["where"], category, areas, lines=lines, patches=patches, size=size)


def _yolo_names(path: Path) -> dict[str, str]:
    """Names of YOLO's classes, from YAML or a list in the folder or the one above."""
    for folder in (path, path.parent):
        for pattern in ("data.y*ml", "*.y*ml"):
            lists = [(x, names) for x in sorted(folder.glob(pattern)) if (names := _names_in(x))]
            if any(names != lists[0][1] for _, names in lists):
                files = " and ".join(str(file) for file, _ in lists)
                raise CrackError(f"{files} list different classes; keep one, as data.yaml")
            if lists:
                return lists[0][1]
        for file in (folder / "classes.txt", folder / "obj.names"):
            if file.is_file():
                return {str(i): x.strip() for i, x in enumerate(_read_text(file).splitlines())}
    return {}


def _names_in(file: Path) -> dict[str, str]:
    """Names of classes that a YAML file lists; none where it is nothing of YOLO's."""
    with as_crack_error(f"{file} does not list the names of classes"):
        if file.stem != "data" and not _YOLO_YAML.match(file.read_text("utf-8-sig", "replace")):
            return {}
        content = yaml.safe_load(_read_text(file))
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, str):
            raise ValueError(f"names is {names!r}")
        pairs = names.items() if isinstance(names, dict) else enumerate(names or [])
        return {str(number): str(name).strip() for number, name in pairs}


def _read_text(file: Path) -> str:
    with as_crack_error(f"{file} cannot be read as UTF-8"):
        return file.read_text("utf-8-sig")


def _read_yolo(file: Path, names: dict[str, str]) -> Iterator[Label]:
    for number, line in enumerate(_read_text(file).splitlines(), start=1):
        where = f"line {number} of {file}"
        category, *rest = line.split() or [""]
        if not category:
            continue
        ring = numbers_of(rest).tolist()
        if len(ring) < 6 or len(ring) % 2:
            raise CrackError(
                f"{where} is a box or no outline; export segmentation polygons (YOLO-seg): "
                "class x1 y1 x2 y2 x3 y3 ..."
            )
        if names and category not in names:
            raise CrackError(f"{where} is of class {category}, which the list of names lacks")
        yield Label(where, names.get(category, category), [ring], shares=True)
