"""The one reader of COCO JSON: what tools and people write becomes Detectron2's records."""

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from .convert.pairing import Pairing, list_files, match_names
from .errors import CrackError, as_crack_error
from .photos import photo_size
from .segmentation import Record, encode_segmentation
from .storage import PHOTO_SUFFIXES, AnyPath

CRACK_NAMES = ("crack", "cracks")
XYWH_ABS = 1  # the value of Detectron2's BoxMode.XYWH_ABS

logger = logging.getLogger("detectron2.crack_data")


@dataclass(frozen=True)
class Label:
    """One drawn instance."""

    where: str  # file and number of the label, for messages
    category: str
    areas: Any = None  # a COCO segmentation
    ignored: bool = False  # its pixels are to be ignored (COCO's crowds)
    contours: bool = True  # polygons may be contours from pixel to pixel
    lines: Sequence[Any] = ()  # of two points, [[x, y], [x, y]], in a width of the user's choice
    patches: Sequence[Any] = ()  # masks of 0 and 1, and their corners' x, y
    shares: bool = False  # coordinates are shares of the photo's width and height
    size: tuple[int, int] | None = None  # width, height of the photo that it is meant for, px
    fault: str = ""  # why it cannot be drawn: the rest of a sentence about it
    file_fault: str = ""  # of what stands for a file that cannot be used: the whole sentence


@dataclass
class AnnotatedPhoto:
    """One image of a JSON; its size (width, height) in px, None where none is given."""

    file_name: str
    image_id: Any
    size: tuple[int, int] | None
    labels: list[Label] = field(default_factory=list)


def read_json(path: AnyPath) -> Any:
    """Read a JSON; bytes of names that are not UTF-8 are kept. A `CrackError` if it is none."""
    with as_crack_error(f"{path} cannot be read as JSON"):
        try:
            text = Path(path).read_text("utf-8-sig", "surrogateescape")
        except FileNotFoundError as error:
            raise CrackError(
                f"{path} does not exist; make it with: python tools/convert_to_coco.py "
                f"--images DIR --masks DIR --output {path}"
            ) from error
        return json.loads(text)


def check_coco(json_file: AnyPath, content: Any) -> Record:
    """Return the content of a JSON if it is COCO's; a `CrackError` if it is not."""
    parts = ("images", "annotations", "categories")
    tables = [content.get(part) if isinstance(content, dict) else None for part in parts]
    if not all(isinstance(x, list) and all(isinstance(row, dict) for row in x) for x in tables):
        raise CrackError(
            f"{json_file} is not a COCO JSON: it lacks images, annotations or categories; export "
            "it as COCO instance segmentation"
        )
    return content


def annotated_photos(json_file: AnyPath, coco: Record) -> list[AnnotatedPhoto]:
    """The images of a COCO JSON with their annotations, in its order; a `CrackError` at a fault."""
    photos: dict[str, AnnotatedPhoto] = {}
    for number, image in enumerate(coco["images"], start=1):
        name, image_id = image.get("file_name"), image.get("id")
        if not isinstance(name, str) or not name:
            raise CrackError(f"image number {number} of {json_file} has no file_name; add it")
        if not isinstance(image_id, int | float | str) or _key(image_id) in photos:
            raise CrackError(
                f"{json_file} lists image id {image_id} twice, or it is no number or name (photo "
                f"{name}); give each photo an id of its own"
            )
        size = None
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            size = int(image["width"]), int(image["height"])
        stated = size if size and min(size) > 0 else None
        photos[_key(image_id)] = AnnotatedPhoto(name, image_id, stated)
    categories: dict[str, str] = {}
    for row in coco["categories"]:
        name = str(row.get("name")).strip()
        if categories.setdefault(_key(row.get("id")), name) != name:
            raise CrackError(f"{json_file} has two categories of id {row.get('id')}; renumber one")
    foreign = is_foreign(coco)
    for number, row in enumerate(coco["annotations"], start=1):
        where = f"annotation {row.get('id', f'number {number}')} of {json_file}"
        try:
            photo = photos.get(_key(row.get("image_id")))
            if photo is None:
                raise ValueError(f"is of image {row.get('image_id')!r}, which is not in it")
            meaning = _meaning_of(row, categories)
            photo.labels.append(Label(where, *meaning, contours=foreign, size=photo.size))
        except (ValueError, TypeError) as error:
            raise CrackError(f"{where} {error}; correct or delete it") from error
    return list(photos.values())


def _meaning_of(row: Record, categories: dict[str, str]) -> tuple[str, Any, bool]:
    """Category and segmentation of an annotation, and whether its pixels are to be ignored."""
    category = categories.get(_key(row.get("category_id")))
    if "category_id" not in row and len(categories) == 1:
        (category,) = categories.values()
    if category is None:
        raise ValueError(f"has category_id {row.get('category_id')!r}, which it lacks")
    given = row.get("iscrowd") or row.get("ignore") or 0
    crowd = {"0": 0, "false": 0, "1": 1, "true": 1}.get(_key(given).casefold())
    if crowd is None:
        raise ValueError(f"has iscrowd {given!r}, which is neither 0 nor 1")
    attributes = row.get("attributes")
    if isinstance(attributes, dict) and "occluded" in attributes:
        crowd = 0  # CVAT calls all that is painted a crowd
    return category, row.get("segmentation"), bool(crowd)


def _key(number: Any) -> str:
    """An id as tools write it in one place as a number and in another as text: 1, 1.0, "1"."""
    return str(number).strip().removesuffix(".0")


def info_of(coco: Any, key: str) -> Any:
    """What a JSON records about itself, None where it does not."""
    info = coco.get("info") if isinstance(coco, dict) else None
    return info.get(key) if isinstance(info, dict) else None


def is_foreign(coco: Record) -> bool:
    """Whether another tool wrote a JSON, so that polygons may be contours from pixel to pixel."""
    return info_of(coco, "conversion") is None


def read_records(json_file: str, image_root: AnyPath | None = None) -> list[Record]:
    """Read a COCO JSON of cracks as records in Detectron2's format, in the order of its photos.

    Their segmentations are compressed run lengths. Annotations of other categories than
    `CRACK_NAMES` are left out and counted in the log. ``image_root`` is the folder of the photos;
    None takes ``info["image_root"]``, relative to the JSON's folder, or else looks near the JSON.
    A `CrackError` names what cannot be used.
    """
    coco = check_coco(json_file, read_json(json_file))
    names = [str(each.get("name")).strip() for each in coco["categories"]]
    if not any(name.casefold() in CRACK_NAMES for name in names):
        raise CrackError(
            f"{json_file} has the categories {names}, and none is called crack; rename the one "
            "that is meant"
        )
    photos = annotated_photos(json_file, coco)
    paths = _find_photos(json_file, coco, [photo.file_name for photo in photos], image_root)
    for path, times in Counter(paths).items():
        if times > 1:
            raise CrackError(f"{json_file} lists {path} as {times} images; join them")
    left_out: Counter[str] = Counter()
    foreign = is_foreign(coco)
    records = [_record(*each, foreign, left_out) for each in zip(photos, paths, strict=True)]
    for reason, count in left_out.items():
        logger.warning(f"{json_file}: {count} annotations {reason} are left out")
    return records


def _record(photo: AnnotatedPhoto, path: str, foreign: bool, left_out: Counter[str]) -> Record:
    width, height = _size_of(photo, path, foreign)
    rows: list[Record] = []
    for each in photo.labels:
        if each.category.casefold() not in CRACK_NAMES:
            left_out[f"of the category {each.category}"] += 1
            continue
        try:
            rle = encode_segmentation(each.areas, height, width, each.contours)
        except (ValueError, OverflowError, TypeError) as error:
            raise CrackError(f"{each.where} {error}; correct or delete it") from error
        if not coco_mask.area(rle):
            left_out["that cover no pixel"] += 1
            continue
        if any((rle, each.ignored) == (row["segmentation"], row["iscrowd"]) for row in rows):
            left_out["that stand twice"] += 1
            continue
        box = coco_mask.toBbox(rle).tolist()
        rows.append({"bbox": box, "bbox_mode": XYWH_ABS, "category_id": 0,
                     "iscrowd": int(each.ignored), "segmentation": rle})  # fmt: skip
    return {"file_name": path, "height": height, "width": width, "image_id": photo.image_id,
            "annotations": rows}  # fmt: skip


def _size_of(photo: AnnotatedPhoto, path: str, foreign: bool) -> tuple[int, int]:
    """Width and height as stated, compared with the file's where another tool stated them."""
    if photo.size and not foreign:
        return photo.size
    try:
        size = photo_size(path)
    except CrackError:
        if photo.size:
            return photo.size  # training counts the photos that cannot be read
        raise
    if photo.size and photo.size != size:
        has, stated = (f"{width}x{height} px" for width, height in (size, photo.size))
        raise CrackError(
            f"photo {path} has {has}, upright by EXIF, but was annotated at {stated}; export its "
            "annotations for this photo"
        )
    return size


def _find_photos(
    json_file: str, coco: Record, names: list[str], image_root: AnyPath | None
) -> list[str]:
    """Path of each image's photo; a `CrackError` where it is missing, or several fit one name."""
    recorded = info_of(coco, "image_root")
    folder = os.path.dirname(os.path.abspath(json_file))
    subset = Path(json_file).stem.rpartition("_")[2]
    roots = ["", "images", f"../images/{subset}", f"../{subset}", "../images"]
    if recorded is not None:
        roots = list(dict.fromkeys([str(recorded), str(recorded).replace("\\", "/")]))
    if image_root is not None:
        given = os.path.abspath(image_root)
        roots = [os.path.join(given, subset), given, *(roots if recorded is not None else [])]
    roots = [os.path.normpath(os.path.join(folder, root)) for root in roots]
    found = []
    for name in names:
        spellings = (name, name.replace("\\", "/"))
        paths = (os.path.join(root, spelling) for spelling in spellings for root in roots)
        found.append(next(filter(os.path.isfile, paths), ""))
    if not all(found) and (image_root is not None or is_foreign(coco)):
        folders = [Path(root) for root in roots if os.path.isdir(root)]
        listed = [path for root in folders for path in list_files(root, PHOTO_SUFFIXES, Pairing())]
        near = match_names(names, list(dict.fromkeys(listed)))
        found = [path or other or "" for path, other in zip(found, near, strict=True)]
    missing = [name for name, path in zip(names, found, strict=True) if not path]
    if missing:
        raise CrackError(
            f"{len(missing)} of {len(names)} photos of {json_file} are missing, or not to be told "
            f"from others, in {' or '.join(roots)} (the first: {missing[0]}); move them there, or "
            'name their folder: CRACK.IMAGE_ROOT DIR, or in the JSON "info": {"image_root": "DIR"}'
        )
    return found
