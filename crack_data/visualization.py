"""Pictures of a data set: as annotated, as training sees it, and as a model predicts it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.utils.visualizer import Visualizer
from PIL import Image, ImageDraw, ImageFont

from .datasets import folder_name, read_photo_of, register_datasets_of
from .errors import CrackError
from .evaluation.evaluator import Predictor, counted_instances, true_instances
from .evaluation.metrics import PIXEL_TOLERANCE, BoolMask, dilate
from .inference.drawing import colour_instances, encode_png, instance_colour
from .inference.prediction import CrackInstance
from .inference.predictor import CrackPredictor
from .modeling.crack_map_head import IGNORED
from .segmentation import Record, ignored_pixels, instance_masks
from .storage import AnyPath, atomic_write, write_bytes
from .training.data import build_train_loader
from .training.loop import BatchMonitor

SOURCES = ("annotation", "dataloader", "prediction")
# RGB. Near misses, within the 2 px of the tolerant metrics, are pale.
HIT = (60, 220, 60)
FALSE = (255, 40, 40)
NEAR_FALSE = (255, 190, 120)
MISSED = (50, 90, 255)
NEAR_MISSED = (150, 210, 255)
_INK = (235, 235, 235)
_PAPER = (24, 24, 24)
_LEGEND = {
    "photo | truth | prediction | error:": _INK,
    "found": HIT,
    "false": FALSE,
    "false by at most 2 px": NEAR_FALSE,
    "missed": MISSED,
    "missed by at most 2 px": NEAR_MISSED,
}
_COLUMNS = 2  # strips beside each other
# px: each of a strip's four pictures, a line of text, between pictures, between strips.
_WIDTH, _LINE, _GAP, _BETWEEN_STRIPS = 240, 20, 4, 16


def visualize(
    cfg: CfgNode, source: str, folder: Path, count: int, worst: bool = False
) -> list[Path]:
    """Draw at most ``count`` samples of a data set into PNG files, and return these.

    Of `SOURCES`, "annotation" is whole photos of DATASETS.TRAIN, "dataloader" the crops that the
    model is given, "prediction" a contact sheet of each set of DATASETS.TEST, of the ``worst``.
    """
    key = "TEST" if source == "prediction" else "TRAIN"
    register_datasets_of(cfg, (key,))
    if not cfg.DATASETS[key]:
        raise CrackError(f"DATASETS.{key} is empty; name a data set to draw")
    files = []
    if source == "prediction":
        predictor = CrackPredictor(cfg)
        for name in cfg.DATASETS.TEST:
            files.append(folder / f"contact_sheet_{folder_name(name)}.png")
            write_contact_sheet(files[-1], inspection_strips(name, predictor, count, worst))
        return files
    drawings = _annotations(cfg) if source == "annotation" else _batches(cfg)
    for number, (name, image) in enumerate(islice(drawings, count)):
        files.append(folder / f"{number:05d}_{Path(name).stem}.png")
        write_bytes(files[-1], encode_png(image[:, :, ::-1]))
    return files


def _annotations(cfg: CfgNode) -> Iterator[tuple[str, np.ndarray]]:
    """Names of photos, and their drawings."""
    for name in cfg.DATASETS.TRAIN:
        for record in DatasetCatalog.get(name):
            photo, masks = read_photo_of(record)[:, :, ::-1], list(instance_masks(record))
            yield record["file_name"], _draw(photo, masks, ignored_pixels(record))


def _batches(cfg: CfgNode) -> Iterator[tuple[str, np.ndarray]]:
    """Names of photos, and drawings of their crops."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # a few samples do not repay the start of processes
    loader = build_train_loader(cfg, seed=max(cfg.SEED, 0))
    monitor = BatchMonitor(cfg.CRACK.MAX_BAD_PHOTOS)
    monitor.photos = len(loader.dataset)  # type: ignore[arg-type]
    for sample in chain.from_iterable(map(monitor, loader)):
        image = convert_image_to_rgb(sample["image"].permute(1, 2, 0), cfg.INPUT.FORMAT)
        masks = list(sample["instances"].gt_masks.tensor.numpy())
        yield sample["file_name"], _draw(image, masks, sample["sem_seg"].numpy() == IGNORED)


def _draw(image: np.ndarray, masks: list[np.ndarray], ignored: np.ndarray) -> np.ndarray:
    """Draw bool masks (H, W) of instances in colours, ignored pixels in grey, on an RGB image."""
    colours = [np.divide(instance_colour(index)[::-1], 255) for index in range(len(masks))]
    if ignored.any():
        masks, colours = [*masks, ignored], [*colours, np.full(3, 0.5)]
    drawing = Visualizer(image, scale=2.0)  # cracks are thin, lines around them are not
    for mask, colour in zip(masks, colours, strict=True):  # as pixels: polygons would fill loops
        drawing.draw_binary_mask(mask.astype(np.uint8), tuple(colour), area_threshold=0)
    return np.asarray(drawing.output.get_image())


class Strip(NamedTuple):
    """One photo's part of the sheet."""

    photo: np.ndarray  # BGR uint8, shape (H, W, 3)
    truth: np.ndarray  # numbers of the true instances, 0 for background, shape (H, W)
    mask: np.ndarray  # numbers of the predicted ones, likewise
    title: str  # one line of text above the photo


def inspection_strips(
    dataset_name: str, predict: Predictor, photos: int = 30, worst: bool = False
) -> Iterator[Strip]:
    """Predict photos of a data set: the ``worst`` by F1, worst first, or some spread evenly."""
    records = DatasetCatalog.get(dataset_name)
    if worst:
        f1 = [_f1(*_strip(record, predict)[1:3]) for record in records]
        chosen = np.argsort(f1, kind="stable")[:photos]
    else:
        chosen = np.unique(np.linspace(0, len(records) - 1, photos).round().astype(int))
    for index in chosen:
        yield _strip(records[index], predict)


def _strip(record: Record, predict: Predictor) -> Strip:
    photo = read_photo_of(record)
    ignored = ignored_pixels(record)
    truth = _number(true_instances(record, ignored), ignored.shape)
    mask = _number(counted_instances(predict(photo).instances, ignored), ignored.shape)
    score = f"F1 {_f1(truth, mask):.2f}" if truth.any() else "no crack"
    true, predicted = (100 * np.count_nonzero(x) / x.size for x in (truth, mask))
    shares = f"{true:.2f} % true, {predicted:.2f} % predicted"
    return Strip(photo, truth, mask, f"{Path(record['file_name']).name}: {score}; {shares}")


def _number(instances: Sequence[CrackInstance], size: tuple[int, ...]) -> np.ndarray:
    labels = np.zeros(size, np.int32)
    for number, instance in enumerate(instances, start=1):
        x0, y0, x1, y1 = instance.box
        labels[y0:y1, x0:x1][instance.mask] = number
    return labels


def _f1(truth: np.ndarray, mask: np.ndarray) -> float:
    both = np.count_nonzero(truth) + np.count_nonzero(mask)
    return 2 * np.count_nonzero((truth > 0) & (mask > 0)) / both if both else 1.0


def write_contact_sheet(path: AnyPath, strips: Iterable[Strip]) -> None:
    """Write a PNG of photo, truth, prediction and error map side by side, a strip per photo."""
    drawn = [_draw_strip(strip) for strip in strips]  # one at a time is held at full size
    rows = [drawn[start : start + _COLUMNS] for start in range(0, len(drawn), _COLUMNS)]
    heights = [max(strip.height for strip in row) + _GAP for row in rows]
    tops = [*accumulate(heights, initial=_LINE)]  # of the rows, px, and the end of the last
    step = drawn[0].width + _BETWEEN_STRIPS
    sheet = Image.new("RGB", (_COLUMNS * step - _BETWEEN_STRIPS, tops[-1]), _PAPER)
    left = 2
    for text, colour in _LEGEND.items():
        left += _write(sheet, left, text, colour) + 16
    for index, strip in enumerate(drawn):
        sheet.paste(strip, (index % _COLUMNS * step, tops[index // _COLUMNS]))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _draw_strip(strip: Strip) -> Image.Image:
    bgr = strip.photo, colour_instances(strip.truth), colour_instances(strip.mask)
    errors = error_map(strip.photo, strip.truth > 0, strip.mask > 0)
    height = -(-strip.photo.shape[0] * _WIDTH // strip.photo.shape[1])
    result = Image.new("RGB", (4 * (_WIDTH + _GAP) - _GAP, _LINE + height), _PAPER)
    _write(result, 2, strip.title, _INK)
    for index, picture in enumerate([*(x[:, :, ::-1] for x in bgr), errors]):
        # Averaging keeps a thin crack visible, if paler, where taking the nearest pixel loses it.
        small = cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        result.paste(Image.fromarray(small), (index * (_WIDTH + _GAP), _LINE))
    return result


def error_map(photo: np.ndarray, truth: BoolMask, mask: BoolMask) -> np.ndarray:
    """The photo, (H, W, 3) BGR, in dim grey under the colours of the legend: RGB uint8."""
    grey = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY) // 3
    result = np.repeat(grey[:, :, None], 3, axis=2)
    false, missed = mask & ~truth, truth & ~mask
    result[false] = FALSE
    result[false & dilate(truth, PIXEL_TOLERANCE)] = NEAR_FALSE
    result[missed] = MISSED
    result[missed & dilate(mask, PIXEL_TOLERANCE)] = NEAR_MISSED
    result[truth & mask] = HIT
    return result


def _write(picture: Image.Image, left: int, text: str, colour: tuple[int, int, int]) -> int:
    """Write a line of text at the top; return its length, px."""
    # DejaVu Sans comes with matplotlib: file names hold more than ASCII.
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)
    draw = ImageDraw.Draw(picture)
    text = " ".join(text.splitlines())  # a file's name may have line breaks
    draw.text((left, 3), text, fill=colour, font=font)
    return round(draw.textlength(text, font=font))
