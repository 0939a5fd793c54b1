"""Read COCO JSON files of cracks, as tools and people write them, into Detectron2's records.

What a file leaves out and can be computed (boxes, ids, sizes, ``iscrowd``) is computed; what cannot
is refused in a sentence that names the file and the annotation.
"""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections import Counter
from typing import Any

from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from .errors import CrackError
from .photos import probe_photo
from .segmentation import Record, encode_segmentation

CRACK_NAMES = ("crack", "cracks")

logger = logging.getLogger("detectron2.crack_data")


def read_coco(json_file: str) -> dict[str, Any]:
    """Read a JSON and check that it is COCO's; bytes of names that are not UTF-8 are kept.

    Raises:
        CrackError: it is missing, not JSON, or not COCO's.
    """
    try:
        with open(json_file, encoding="utf-8-sig", errors="surrogateescape") as file:
            coco = json.load(file)
    except FileNotFoundError as error:
        raise CrackError(
            f"{json_file} does not exist; make it with: python tools/convert_to_coco.py "
            f"--images DIR --masks DIR --output {json_file}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CrackError(f"{json_file} cannot be read as JSON: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(coco, dict) or not all(_is_table(coco.get(part)) for part in parts):
        raise CrackError(
            f"{json_file} is not a COCO JSON: it lacks images, annotations or categories; export "
            "it as COCO instance segmentation"
        )
    return coco


def read_records(json_file: str, image_root: str | os.PathLike[str] | None = None) -> list[Record]:
    """Read a COCO JSON of cracks as records in Detectron2's format, in the order of its photos.

    Args:
        json_file: made by ``tools/convert_to_coco.py`` or by a labelling tool. Annotations of
            other categories than `CRACK_NAMES`, in any case, are left out and counted in the log.
        image_root: folder of the photos; None takes ``info["image_root"]``, relative to the
            JSON's folder, or else looks beside the JSON, in ``images`` and in ``../images``.

    Returns:
        Records with file_name, height, width, image_id and annotations, each of these with bbox
        (XYWH_ABS), category_id 0, iscrowd, and segmentation as compressed run lengths.

    Raises:
        CrackError: a photo is missing, or something can be neither used nor computed.
    """
    coco = read_coco(json_file)
    records = _read_photos(json_file, coco, image_root)
    _add_annotations(json_file, coco, records)
    return list(records.values())


def _add_annotations(json_file: str, coco: Record, records: dict[str, Record]) -> None:
    cracks = _crack_categories(json_file, coco["categories"])
    foreign = "image_root" not in (coco.get("info") or {})
    left_out: Counter[str] = Counter()
    for number, annotation in enumerate(coco["annotations"], start=1):
        name = annotation.get("id", f"number {number}")
        try:
            record = records.get(_key(annotation.get("image_id")))
            if record is None:
                raise ValueError(f"is of image {annotation.get('image_id')!r}, which is not in it")
            category = cracks[_category_of(annotation, cracks)]
            if category is not None:
                left_out[f"of the category {category}"] += 1
            elif not _add(record, annotation, foreign):
                left_out["that cover no pixel"] += 1
        except (ValueError, OverflowError, TypeError) as error:
            raise CrackError(
                f"annotation {name} of {json_file} {error}; correct or delete it"
            ) from error
    for reason, count in left_out.items():
        logger.warning(f"{json_file}: {count} annotations {reason} are left out")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _key(image_id: Any) -> str:
    """An id as tools write it in one place as a number and in another as text."""
    if isinstance(image_id, float) and image_id.is_integer():
        image_id = int(image_id)
    return str(image_id).strip()


def _crack_categories(json_file: str, categories: list[Record]) -> dict[str, str | None]:
    """Category id → None for cracks, the name for others.

    Raises:
        CrackError: none is a crack.
    """
    names = {_key(each.get("id")): str(each.get("name")).strip() for each in categories}
    found = {key: None if _is_crack(name) else name for key, name in names.items()}
    if None not in found.values():
        raise CrackError(
            f"{json_file} has the categories {list(names.values())}, and none is called crack; "
            "rename the one that is meant"
        )
    return found


def _is_crack(name: str) -> bool:
    return name.casefold() in CRACK_NAMES


def _category_of(annotation: Record, categories: dict[str, str | None]) -> str:
    if "category_id" not in annotation and len(categories) == 1:
        return next(iter(categories))
    key = _key(annotation.get("category_id"))
    if key not in categories:
        raise ValueError(f"has category_id {annotation.get('category_id')!r}, which it lacks")
    return key


def _add(record: Record, annotation: Record, foreign: bool) -> bool:
    """Complete an annotation and add it to its photo's record, unless it covers no pixel."""
    crowd = annotation.get("iscrowd") or annotation.get("ignore") or 0
    if str(int(crowd)) not in ("0", "1"):
        raise ValueError(f"has iscrowd {crowd!r}, which is neither 0 nor 1")
    height, width = record["height"], record["width"]
    rle = encode_segmentation(annotation.get("segmentation"), height, width, foreign)
    if not coco_mask.area(rle):
        return False
    record["annotations"].append(
        {
            "bbox": coco_mask.toBbox(rle).tolist(),
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 0,
            "iscrowd": int(crowd),
            "segmentation": rle,
        }
    )
    return True


def _read_photos(
    json_file: str, coco: Record, image_root: str | os.PathLike[str] | None
) -> dict[str, Record]:
    """Records without annotations, by the key of their image id."""
    paths = _find_photos(json_file, coco, image_root)
    records: dict[str, Record] = {}
    owners: dict[str, Any] = {}
    for image, path in zip(coco["images"], paths, strict=True):
        key = _key(image.get("id"))
        if "id" not in image or key in records:
            raise CrackError(
                f"{json_file} lists image id {image.get('id')} twice or without a number (photo "
                f"{image['file_name']}); give each photo an id of its own"
            )
        if path in owners:
            raise CrackError(
                f"{json_file} lists {image['file_name']} as image {owners[path]} and as image "
                f"{image['id']}; join the two"
            )
        owners[path] = image["id"]
        height, width = _size(image, path)
        records[key] = {
            "file_name": path,
            "height": height,
            "width": width,
            "image_id": image["id"],
            "annotations": [],
        }
    return records


def _size(image: Record, path: str) -> tuple[int, int]:
    """Height and width as the JSON has them, else those of the upright photo, px."""
    try:
        height, width = int(image["height"]), int(image["width"])
    except (KeyError, TypeError, ValueError):
        height = width = 0
    if height <= 0 or width <= 0:
        width, height, _ = probe_photo(path)
    return height, width


def _find_photos(
    json_file: str, coco: Record, image_root: str | os.PathLike[str] | None
) -> list[str]:
    """Path of each image's photo.

    Raises:
        CrackError: an image has no name, or photos are missing.
    """
    names = [image.get("file_name") for image in coco["images"]]
    if not all(isinstance(name, str) and name for name in names):
        number = next(i for i, x in enumerate(names, 1) if not isinstance(x, str) or not x)
        raise CrackError(f"image number {number} of {json_file} has no file_name; add it")
    recorded = (coco.get("info") or {}).get("image_root")
    folder = os.path.dirname(os.path.abspath(json_file))
    root = recorded if image_root is None else os.fspath(image_root)
    roots = [folder, f"{folder}/images", f"{folder}/../images"]
    if image_root is not None or recorded:
        roots = [os.path.join(folder if image_root is None else "", str(root))]
    roots = [os.path.normpath(each) for each in roots]
    bare = not recorded and len({_base(name) for name in names}) == len(names)
    found = [_find_photo(name, roots, bare) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise CrackError(
            f"{len(missing)} of {len(names)} photos of {json_file} are not in "
            f"{' or '.join(roots)} (the first: {missing[0]}); move them there, or name their "
            'folder in the JSON: "info": {"image_root": "DIR"}'
        )
    return [path for path in found if path is not None]


def _find_photo(name: str, roots: list[str], bare: bool) -> str | None:
    """The file that an image's name stands for.

    Args:
        name: as the JSON has it, perhaps with another system's separators or accents.
        roots: folders to look in.
        bare: try the last part of the name alone too.
    """
    names = [name, name.replace("\\", "/"), *([_base(name)] if bare else [])]
    for each in dict.fromkeys(names):
        for form in dict.fromkeys(
            (each, *(unicodedata.normalize(x, each) for x in ("NFC", "NFD")))
        ):
            for root in roots:
                path = os.path.join(root, form)
                if os.path.isfile(path):
                    return path
    return None


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
