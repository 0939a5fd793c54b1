"""COCO JSON files of cracks as Detectron2 data sets; three of them are registered at import."""

import logging
import os
import re
from functools import partial
from math import inf
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from .annotations import check_coco, info_of, read_json, read_records
from .errors import CrackError
from .photos import read_photo
from .segmentation import Record, has_crack
from .storage import AnyPath

logger = logging.getLogger("detectron2.crack_data")

THING_CLASSES = ["crack"]
STANDARD_NAMES = ("crack_train", "crack_val", "crack_test")


def register_crack_dataset(name: str, json_file: str, image_root: AnyPath | None = None) -> None:
    """Register a COCO JSON of cracks with Detectron2, once, for `read_records` at its use."""
    root = None if image_root is None else os.fspath(image_root)
    metadata = MetadataCatalog.get(name)
    if name in DatasetCatalog:
        if (metadata.get("json_file"), metadata.get("image_root")) == (json_file, root):
            return
        raise CrackError(f"data set {name} is already registered, for {metadata.get('json_file')}")
    DatasetCatalog.register(name, partial(read_records, json_file, root))
    metadata.set(json_file=json_file, image_root=root)
    metadata.set(thing_classes=THING_CLASSES, thing_colors=[(220, 20, 60)])  # RGB


def register_datasets_of(cfg: CfgNode, keys: tuple[str, ...] = ("TRAIN", "TEST")) -> None:
    """Register and check the data sets of DATASETS.TRAIN and DATASETS.TEST, or one of them.

    A name that ends in ``.json`` is registered as that file. All crack sets are read here, so that
    a fault of the test set is noticed before training.
    """
    found: dict[str, list[Record]] = {}
    for key in keys:
        names = cfg.DATASETS[key]
        if isinstance(names, str):
            raise CrackError(
                f"DATASETS.{key} is the bare string {names!r}; write it as \"('{names}',)\""
            )
        for name in map(str, names):
            root = cfg.CRACK.IMAGE_ROOT or None
            if name in STANDARD_NAMES and root:
                json_file = MetadataCatalog.get(name).json_file
                for catalog in (DatasetCatalog, MetadataCatalog):
                    catalog.remove(name)
                register_crack_dataset(name, json_file, root)
            elif name.endswith(".json"):
                register_crack_dataset(name, name, root)
            elif name not in DatasetCatalog:
                raise CrackError(
                    f"DATASETS.{key} names {name!r}, which is not registered; use one of "
                    f"{', '.join(STANDARD_NAMES)}, or the path of a COCO JSON (ending in .json)"
                )
            classes = MetadataCatalog.get(name).get("thing_classes") or THING_CLASSES
            if len(classes) > 1:
                raise CrackError(
                    f"DATASETS.{key}: {name} has the classes {', '.join(classes)}, all of which "
                    "would count as crack; register its cracks alone"
                )
            if classes == THING_CLASSES:
                found[name] = DatasetCatalog.get(name)
                if not found[name]:
                    raise CrackError(f"DATASETS.{key}: {name} holds no photos; convert it again")
    folders: dict[str, str] = {}
    for name in cfg.DATASETS.TEST if "TEST" in keys else ():
        other = folders.setdefault(folder_name(name), name)
        if other != name:
            raise CrackError(f"results of {other} and {name} would be called alike; rename one")
    _check_conversions([name for name in found if MetadataCatalog.get(name).get("json_file")])
    if {"TRAIN", "TEST"} <= set(keys):  # a training; pictures may be drawn of any set
        _check_training(cfg, found)


def folder_name(dataset_name: str) -> str:
    """A data set's name, which may be a path, as the name of one folder."""
    return re.sub(r"[^\w-]+", "_", dataset_name.removesuffix(".json")).strip("_")


def read_photo_of(record: Record) -> np.ndarray:
    """Decode the photo of a record, upright, BGR uint8 (H, W, 3), if it has the stated size."""
    photo = read_photo(record["file_name"])
    height, width = photo.shape[:2]
    if (height, width) != (record["height"], record["width"]):
        raise CrackError(
            f"photo {record['file_name']} has {width}x{height} px, but its data set says "
            f"{record['width']}x{record['height']}; correct its JSON"
        )
    return photo


def _check_training(cfg: CfgNode, found: dict[str, list[Record]]) -> None:
    """Refuse a training without cracks; warn of photos that are trained and tested on."""
    names = cfg.DATASETS.TRAIN
    records = [record for name in names for record in found.get(name, [])]
    if records and found.keys() >= set(names) and not any(map(has_crack, records)):
        raise CrackError(
            f"no photo of DATASETS.TRAIN ({', '.join(names)}) has a crack (areas of iscrowd 1 are "
            "ignored, and are none); add photos with cracks"
        )
    files = {record["file_name"] for record in records}
    for name in cfg.DATASETS.TEST:
        shared = sum(record["file_name"] in files for record in found.get(name, []))
        if shared and name not in names:  # a set that is named in both is meant to be
            logger.warning(f"{shared} photos of {name} (DATASETS.TEST) are in DATASETS.TRAIN too")


def _check_conversions(names: list[str]) -> None:
    """Refuse the splits of one output that come from different runs of the converter."""
    runs: dict[str, tuple[Any, str]] = {}
    for name in names:
        json_file = MetadataCatalog.get(name).json_file
        run = info_of(check_coco(json_file, read_json(json_file)), "conversion") or {}
        folder, base = os.path.split(os.path.abspath(json_file))
        for split in run.get("splits", []):
            if not split or not base.endswith(f"_{split}.json"):
                continue
            output = os.path.join(folder, base.removesuffix(f"{split}.json"))
            identity, other = runs.setdefault(output, (run.get("id"), json_file))
            if identity != run.get("id"):
                raise CrackError(
                    f"{other} and {json_file} come from different conversions, so that photos may "
                    "be in both; convert again"
                )


def value_by_set(cfg: CfgNode, key: str, default: float) -> dict[str, float]:
    """What a key of CRACK gives to each set, the default if it is empty; else a `CrackError`."""
    names, values = cfg.DATASETS.TRAIN, cfg.CRACK[key]
    if not values:
        return dict.fromkeys(names, default)
    if len({*names}) < len(names):
        raise CrackError(f"DATASETS.TRAIN names a set twice; CRACK.{key} needs each once")
    able = all(isinstance(value, int | float) and 0 <= value < inf for value in values)
    if len(values) != len(names) or not able:
        raise CrackError(
            f"CRACK.{key} is {list(values)}; it needs one number >= 0 for each of the {len(names)} "
            "data sets in DATASETS.TRAIN"
        )
    return {name: float(value) for name, value in zip(names, values, strict=True)}


for _name in STANDARD_NAMES:
    _root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    register_crack_dataset(_name, os.path.join(_root, "crack", f"{_name}.json"))
