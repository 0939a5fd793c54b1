"""Readers of the formats that labels are drawn in: COCO JSON, labelme JSON, YOLO-seg text."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from ..errors import CrackError
from ..segmentation import decode_mask
from .pairing import Pairing, list_files

ByteMask = npt.NDArray[np.uint8]
Points = list[list[float]]

_CIRCLE = 64  # corners of a circle


@dataclass(frozen=True)
class Label:
    """One drawn instance.

    Attributes:
        category: as the tool calls it.
        where: file and number of the label, for messages.
        polygons: outlines of its pieces, each a list of (x, y), px from the photo's corner.
        lines: polylines along it, likewise.
        rle: COCO's RLE.
        patch: a mask, HxW of 0 and 1, with the corner x, y of its place.
        shares: coordinates are shares of the photo's width and height.
        ignored: its pixels are to be ignored (COCO's crowds).
    """

    category: str
    where: str
    polygons: tuple[Points, ...] = ()
    lines: tuple[Points, ...] = ()
    rle: dict[str, Any] | None = None
    patch: tuple[ByteMask, int, int] | None = None
    shares: bool = False
    ignored: bool = False


@dataclass
class LabelEntry:
    """What a label file says of one photo."""

    name: str
    labels: list[Label] = field(default_factory=list)
    size: tuple[int, int] | None = None


def read_entries(path: Path) -> Iterator[LabelEntry]:
    """Read a label file, or all that a folder holds, photo by photo.

    Raises:
        CrackError: there is none, or one cannot be understood.
    """
    if path.is_file():
        yield from _read_json(path)
        return
    if not path.is_dir():
        raise CrackError(f"--labels {path} does not exist")
    files = [Path(name) for name in list_files(path, (".json", ".txt"), Pairing())]
    jsons = [file for file in files if file.suffix.lower() == ".json"]
    texts = [file for file in files if file not in jsons and file.stem != "classes"]
    if not files:
        raise CrackError(f"--labels {path} holds neither .json (COCO, labelme) nor .txt (YOLO)")
    for file in jsons:
        yield from _read_json(file)
    names = _yolo_names(path) if texts and not jsons else {}
    for file in () if jsons else texts:
        yield _read_yolo(file, path, names)


def _read_json(path: Path) -> Iterator[LabelEntry]:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CrackError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        yield _read_labelme(path, content)
    elif isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        yield from _read_coco(path, content)
    else:
        raise CrackError(f"{path} is neither a COCO JSON (images, annotations) nor labelme's")


def _read_coco(path: Path, content: dict[str, Any]) -> Iterator[LabelEntry]:
    names = {str(c["id"]): str(c["name"]) for c in content.get("categories") or []}
    entries: dict[str, LabelEntry] = {}
    for image in content["images"]:
        size = (image["width"], image["height"]) if image.get("width") else None
        entries[str(image["id"])] = LabelEntry(image["file_name"], size=size)
    for number, each in enumerate(content["annotations"]):
        where = f"{path}, annotation {each.get('id', f'number {number}')}"
        entry = entries.get(str(each.get("image_id")))
        if entry is None:
            raise CrackError(f"{where}: there is no image {each.get('image_id')!r}; mend its id")
        category = names.get(str(each.get("category_id")), str(each.get("category_id")))
        entry.labels.append(_coco_label(where, category, each))
    yield from entries.values()


def _coco_label(where: str, category: str, each: dict[str, Any]) -> Label:
    shape = each.get("segmentation")
    crowd = bool(each.get("iscrowd"))
    if isinstance(shape, dict) and {"size", "counts"} <= shape.keys():
        return Label(category, where, rle=shape, ignored=crowd)
    if isinstance(shape, list) and shape and all(isinstance(ring, list) for ring in shape):
        rings = [[ring[i : i + 2] for i in range(0, len(ring) - 1, 2)] for ring in shape]
        return _outlined(category, where, rings, ignored=crowd)
    raise CrackError(
        f"{where} has no outline (segmentation), and a box alone does not say where the crack is; "
        "draw it as a polygon, a line or a mask, or remove it"
    )


def _outlined(category: str, where: str, rings: list[Points], **more: Any) -> Label:
    """A label of polygons; two points make a line."""
    return Label(
        category,
        where,
        polygons=tuple(ring for ring in rings if len(ring) > 2),
        lines=tuple(ring for ring in rings if len(ring) == 2),
        **more,
    )


def _read_labelme(path: Path, content: dict[str, Any]) -> LabelEntry:
    size = (content["imageWidth"], content["imageHeight"]) if content.get("imageWidth") else None
    entry = LabelEntry(content.get("imagePath") or path.stem, size=size)
    groups: dict[tuple[str, Any], list[int]] = {}
    for number, shape in enumerate(content["shapes"]):
        group = shape.get("group_id")
        key = (str(shape.get("label")), ("alone", number) if group is None else group)
        groups.setdefault(key, []).append(number)
    for (category, _), numbers in groups.items():
        pieces = [content["shapes"][number] for number in numbers]
        entry.labels.append(_labelme_label(f"{path}, shape {numbers[0]}", category, pieces))
    return entry


def _labelme_label(where: str, category: str, pieces: list[dict[str, Any]]) -> Label:
    polygons, lines, patch = [], [], None
    for piece in pieces:
        kind, points = piece.get("shape_type") or "polygon", piece["points"]
        if kind in ("line", "linestrip"):
            lines.append(points)
        elif kind == "rectangle":
            (left, top), (right, bottom) = points
            polygons.append([[left, top], [right, top], [right, bottom], [left, bottom]])
        elif kind == "circle":
            polygons.append(_circle(*points))
        elif kind == "mask" and len(pieces) == 1:
            data = io.BytesIO(base64.b64decode(piece["mask"]))
            pixels = np.asarray(Image.open(data, formats=("PNG",)).convert("L"))
            patch = ((pixels > 0).astype(np.uint8), *(round(value) for value in points[0]))
        elif kind == "polygon" and len(points) > 2:
            polygons.append(points)
        else:
            raise CrackError(f"{where} is a {kind} of {len(points)} points, which draws no crack")
    return Label(category, where, tuple(polygons), tuple(lines), patch=patch)


def _circle(centre: list[float], rim: list[float]) -> Points:
    radius = float(np.hypot(rim[0] - centre[0], rim[1] - centre[1]))
    angles = np.arange(_CIRCLE) * (2 * np.pi / _CIRCLE)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + centre
    return [[float(x), float(y)] for x, y in around]


def _yolo_names(path: Path) -> dict[str, str]:
    """Names of YOLO's classes, from data.yaml or classes.txt in the folder or the one above."""
    for folder in (path, path.parent):
        for file in sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml")):
            names = (yaml.safe_load(file.read_text("utf-8")) or {}).get("names")
            if names:
                pairs = names.items() if isinstance(names, dict) else enumerate(names)
                return {str(number): str(name) for number, name in pairs}
        if (folder / "classes.txt").is_file():
            lines = (folder / "classes.txt").read_text("utf-8").splitlines()
            return {str(number): line.strip() for number, line in enumerate(lines)}
    return {}


def _read_yolo(file: Path, root: Path, names: dict[str, str]) -> LabelEntry:
    relative = file.relative_to(root).with_suffix("").as_posix()
    entry = LabelEntry(relative)
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        where = f"{file}, line {number}"
        category, *rest = line.split() or [""]
        try:
            values = [float(value) for value in rest]
        except ValueError as error:
            raise CrackError(f"{where} is no YOLO label: class x1 y1 x2 y2 ...") from error
        if not category:
            continue
        if len(values) < 6 or len(values) % 2:
            raise CrackError(
                f"{where} is a box or no outline ({len(values)} numbers); export segmentation "
                "polygons (YOLO-seg): class x1 y1 x2 y2 x3 y3 ..."
            )
        ring = [values[i : i + 2] for i in range(0, len(values), 2)]
        entry.labels.append(Label(names.get(category, category), where, (ring,), shares=True))
    return entry


def draw_label(label: Label, shape: tuple[int, int], line_width: float) -> ByteMask:
    """Draw a label as a mask, HxW of 0 and 1.

    Args:
        shape: height and width of the photo, px.
        line_width: of lines, px.

    Raises:
        CrackError: it does not fit the photo, or draws nothing.
    """
    height, width = shape
    scale = np.array([width, height] if label.shares else [1, 1])
    mask = np.zeros(shape, np.uint8)
    try:
        if label.rle is not None:
            if list(label.rle["size"]) != [height, width]:
                raise ValueError(f"its RLE has the size {label.rle['size']}")
            mask |= decode_mask(label.rle, height, width)
        if label.polygons:
            rings = [(np.array(ring) * scale).ravel().tolist() for ring in label.polygons]
            mask |= decode_mask(rings, height, width)
        for line in label.lines:
            _draw_line(mask, np.array(line, np.float64) * scale, line_width)
        if label.patch:
            pixels, x, y = label.patch
            mask[y : y + pixels.shape[0], x : x + pixels.shape[1]] |= pixels
    except (ValueError, TypeError, IndexError, KeyError) as error:
        size = f"{width}x{height} px"
        raise CrackError(f"{label.where} cannot be drawn on {size}: {error}") from error
    if not mask.any():
        raise CrackError(f"{label.where} covers no pixel of its photo, {width}x{height} px")
    return mask


def _draw_line(mask: ByteMask, points: npt.NDArray[np.float64], width: float) -> None:
    """Set, in place, the pixels whose centre is nearer than half the width to a polyline."""
    for start, end in pairwise(points):
        low = np.maximum(np.minimum(start, end) - width, 0).astype(int)
        high = (np.maximum(start, end) + width + 1).astype(int)
        part = mask[low[1] : high[1], low[0] : high[0]]
        y, x = np.indices(part.shape) + 0.5
        offset = np.stack([x + low[0], y + low[1]], axis=-1) - start
        way = end - start
        along = np.clip(offset @ way / max(float(way @ way), 1e-9), 0, 1)
        part[np.linalg.norm(offset - along[..., None] * way, axis=-1) < width / 2] = 1
