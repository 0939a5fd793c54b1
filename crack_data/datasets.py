"""COCO JSON files of cracks as Detectron2 data sets.

Importing this module registers ``crack_train``, ``crack_val`` and ``crack_test``. Nothing is read
until a set is used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from .convert.coco import decode_mask
from .errors import CrackError

THING_CLASSES = ["crack"]
THING_COLORS = [(220, 20, 60)]  # RGB
STANDARD_NAMES = ("crack_train", "crack_val", "crack_test")


@dataclass(frozen=True)
class RecordedImageRoot(os.PathLike[str]):
    """The folder of the photos that a COCO JSON names in ``info["image_root"]``, read when used.

    A relative root counts from the JSON's folder; without one, that folder is the root.
    """

    json_file: str

    def __fspath__(self) -> str:
        return self._path

    @cached_property
    def _path(self) -> str:
        info = _read_coco(self.json_file).get("info") or {}
        folder = os.path.dirname(os.path.abspath(self.json_file))
        return os.path.normpath(os.path.join(folder, info.get("image_root", "")))


def register_crack_dataset(
    name: str, json_file: str, image_root: str | os.PathLike[str] | None = None
) -> None:
    """Register a COCO JSON of cracks in ``DatasetCatalog`` and ``MetadataCatalog``.

    Nothing is read before the set is used. Registering the same file under the same name again
    does nothing.

    Args:
        name: what ``DATASETS.TRAIN`` or ``DATASETS.TEST`` will call it.
        json_file: COCO JSON, as ``tools/convert_to_coco.py`` writes it.
        image_root: folder of the photos; None takes the one recorded in the JSON.

    Raises:
        CrackError: another file or folder is registered under this name.
    """
    root = RecordedImageRoot(json_file) if image_root is None else os.fspath(image_root)
    if name in DatasetCatalog:
        known = MetadataCatalog.get(name)
        if (known.get("json_file"), known.get("image_root")) == (json_file, root):
            return
        raise CrackError(f"data set {name} is already registered, for {known.get('json_file')}")
    metadata = {"thing_classes": THING_CLASSES, "thing_colors": THING_COLORS}
    register_coco_instances(name, metadata, json_file, root)
    # Detectron2's loader, preceded by checks that answer in sentences.
    DatasetCatalog[name] = partial(_load_checked, json_file, root, DatasetCatalog[name])


def register_datasets_of(cfg: CfgNode, keys: tuple[str, ...] = ("TRAIN", "TEST")) -> None:
    """Register and check the data sets that a config trains or tests on.

    A name that ends in ``.json`` is a COCO JSON, and is registered under that very name. JSON and
    photos of all crack sets are looked for here, so that a test set which is not there is noticed
    before training and not after it.

    Args:
        cfg: a config.
        keys: of DATASETS, those whose sets will be used.

    Raises:
        CrackError: ``DATASETS.TRAIN`` or ``DATASETS.TEST`` is no sequence of names, or a set is
            unknown, or its JSON or its photos are missing.
    """
    for key in keys:
        for name in _names(f"DATASETS.{key}", cfg.DATASETS[key]):
            if name.endswith(".json"):
                register_crack_dataset(name, name)
            elif name not in DatasetCatalog:
                raise CrackError(
                    f"DATASETS.{key} names {name!r}, which is not registered; use one of "
                    f"{', '.join(_crack_names())}, or the path of a COCO JSON (ending in .json)"
                )
            if name in _crack_names():
                metadata = MetadataCatalog.get(name)
                check_dataset(metadata.json_file, metadata.image_root)


BoolMask = npt.NDArray[np.bool_]


def instance_masks(record: dict[str, Any]) -> list[BoolMask]:
    """The pixels of each instance of a record, in its order; ignored areas are left out."""
    return [_mask_of(record, each) for each in _annotations(record, crowd=0)]


def ignored_pixels(record: dict[str, Any]) -> BoolMask:
    """The pixels of a record that count neither as crack nor as background (``iscrowd`` 1)."""
    return _union(record, crowd=1)


def union_mask(record: dict[str, Any]) -> BoolMask:
    """The pixels of all instances of a record: bool (H, W)."""
    return _union(record, crowd=0)


def _annotations(record: dict[str, Any], crowd: int) -> list[dict[str, Any]]:
    return [x for x in record.get("annotations", []) if int(x.get("iscrowd", 0)) == crowd]


def _mask_of(record: dict[str, Any], annotation: dict[str, Any]) -> BoolMask:
    return decode_mask(annotation["segmentation"], record["height"], record["width"])


def _union(record: dict[str, Any], crowd: int) -> BoolMask:
    union = np.zeros((record["height"], record["width"]), bool)
    for annotation in _annotations(record, crowd):
        union |= _mask_of(record, annotation)
    return union


def check_dataset(json_file: str, image_root: str | os.PathLike[str]) -> None:
    """Check that a COCO JSON of cracks and all its photos are there, without decoding photos.

    Raises:
        CrackError: the JSON is missing, is not one of cracks, or its photos are not in
            ``image_root``.
    """
    coco = _read_coco(json_file)
    classes = [category.get("name") for category in coco["categories"]]
    if classes != THING_CLASSES:
        raise CrackError(f"{json_file} has the categories {classes}, expected {THING_CLASSES}")
    names = [image["file_name"] for image in coco["images"]]
    missing = [name for name in names if not os.path.isfile(os.path.join(image_root, name))]
    if missing:
        raise CrackError(
            f"{len(missing)} of {len(names)} photos of {json_file} are not in "
            f"{os.fspath(image_root)} (the first: {missing[0]}); move them back or convert again"
        )


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise CrackError(f"{key} is the bare string {value!r}; write it as \"('{value}',)\"")
    names = tuple(value)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise CrackError(f"{key} holds {wrong[0]!r}, which is not the name of a data set")
    return names


def _crack_names() -> list[str]:
    return [
        name
        for name in DatasetCatalog
        if MetadataCatalog.get(name).get("thing_classes") == THING_CLASSES
    ]


def _read_coco(json_file: str) -> dict[str, Any]:
    try:
        with open(json_file, encoding="utf-8") as file:
            coco = json.load(file)
    except FileNotFoundError as error:
        raise CrackError(
            f"{json_file} does not exist; make it with: python tools/convert_to_coco.py "
            f"--images DIR --masks DIR --output {json_file}"
        ) from error
    except (OSError, ValueError) as error:
        raise CrackError(f"{json_file} cannot be read as JSON: {error}") from error
    if not isinstance(coco, dict) or not {"images", "annotations", "categories"} <= coco.keys():
        raise CrackError(
            f"{json_file} is not a COCO JSON: it lacks images, annotations or categories"
        )
    return coco


def _load_checked(
    json_file: str,
    image_root: str | os.PathLike[str],
    load: Callable[[], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    check_dataset(json_file, image_root)
    return load()


def _register_standard_sets() -> None:
    root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    for name in STANDARD_NAMES:
        register_crack_dataset(name, os.path.join(root, "crack", f"{name}.json"))


_register_standard_sets()
