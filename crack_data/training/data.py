"""The training data: which photos are drawn, the crops made of them, and batches of these."""

import itertools
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.structures import BitMasks, Instances
from detectron2.utils import comm
from skimage.measure import regionprops
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..convert.linking import link_pieces, renumber
from ..datasets import read_photo_of, value_by_set
from ..errors import CrackError
from ..modeling.crack_map_head import IGNORED
from ..segmentation import Record, has_crack, ignored_pixels, instance_masks
from . import augmentation

# A pixel of a crop is crack when at least this share of it is: measured on CFD, DeepCrack and
# crackseg448 at scales 0.7 to 1.4, that keeps 99.4 to 100 % of the centrelines and draws cracks
# 2 to 5 % too large.
CRACK_COVERAGE = 0.45
# Pieces joined by pixels that are crack to this share are one: a crack of less than a pixel's width
# comes apart at CRACK_COVERAGE (CFD at scale 0.7: 3.5 times the instances).
LINK_COVERAGE = 0.2

Batch = list[dict[str, Any]]


def sample_stream(weights: torch.Tensor, seed: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Endless (position in the stream, index of the photo), from position ``start`` on.

    With the seed, the position decides a sample's augmentation: a run that starts at position p
    continues exactly the one that stopped there. Of several processes each takes every n-th
    position. ``weights``, shape (photos,), say how often each photo is drawn.
    """
    photos: Sampler[int] = TrainingSampler(len(weights), seed=seed)
    if bool((weights != weights[0]).any()):
        photos = RepeatFactorTrainingSampler(weights / weights[weights > 0].min(), seed=seed)
    world, rank = comm.get_world_size(), comm.get_rank()
    stream = zip(itertools.count(rank, world), photos, strict=False)
    return itertools.islice(stream, start // world, None)


def load_records(cfg: CfgNode) -> list[Record]:
    """The records of DATASETS.TRAIN, set after set, each with its "dataset_name"."""
    records: list[Record] = []
    for name in cfg.DATASETS.TRAIN:
        # Filtered here: Detectron2 only asserts that some are left.
        found = get_detection_dataset_dicts([name], filter_empty=False)
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            found = filter_images_with_only_crowd_annotations(found)
        if not found:
            raise CrackError(
                f"DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves no photo of {name} (DATASETS.TRAIN), "
                "since none has a crack; set it to False, or leave the set out"
            )
        records += [{**record, "dataset_name": name} for record in found]
    return records


def photo_weights(cfg: CfgNode, records: list[Record]) -> torch.Tensor:
    """(photos,) how often each record is drawn; a `CrackError` where the config leaves none."""
    of_set = value_by_set(cfg, "SAMPLING_WEIGHTS", default=1.0)
    crack_free = cfg.CRACK.CRACK_FREE_WEIGHT
    weights = torch.tensor(
        [of_set[x["dataset_name"]] * (1.0 if has_crack(x) else crack_free) for x in records]
    )
    if not weights.any():
        raise CrackError(
            "CRACK.SAMPLING_WEIGHTS and CRACK.CRACK_FREE_WEIGHT leave no photo of DATASETS.TRAIN "
            "to train on; raise one of them"
        )
    return weights


class TrainSamples(Dataset[dict[str, Any]]):
    """Maps (position, photo index) to a sample; an unreadable photo is replaced by another.

    A sample's "skipped" lists the photos that could not be read, as (file name, reason); where no
    other could be read either, it holds nothing else.
    """

    def __init__(self, cfg: CfgNode, records: list[Record], seed: int) -> None:
        self.records = DatasetFromList(records, copy=False)
        self.weights = photo_weights(cfg, records)
        self.seed = seed
        self.mapper = CrackMapper(cfg)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        position, index = key
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # the training needs the cores
        rng = np.random.default_rng([self.seed, position])
        skipped: list[tuple[str, str]] = []
        for _ in range(10):  # photos; then the sample is given up
            record = self.records[index]
            try:
                return {**self.mapper(record, rng), "skipped": skipped}
            except CrackError as error:
                skipped.append((record["file_name"], str(error)))
            weights = self.weights.numpy()
            index = int(rng.choice(len(weights), p=weights / weights.sum()))
        return {"skipped": skipped}


class BatchLoader(DataLoader[dict[str, Any]]):
    """Batches of samples, made in DATALOADER.NUM_WORKERS processes, which send them as bytes.

    Tensors would lie in /dev/shm, 64 MB in Docker: a worker that finds it full waits for ever.
    """

    def __iter__(self) -> Any:
        return map(pickle.loads, super().__iter__())


def build_train_loader(cfg: CfgNode, seed: int, start: int = 0) -> BatchLoader:
    """The training batches from sample ``start`` of the stream on."""
    size, world = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if size % world:
        raise CrackError(
            f"SOLVER.IMS_PER_BATCH is {size}; it must be a multiple of the {world} process(es)"
        )
    samples = TrainSamples(cfg, load_records(cfg), seed)
    return BatchLoader(
        samples,
        batch_size=size // world,
        sampler=sample_stream(samples.weights, seed, start),
        drop_last=True,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=pickle.dumps,
    )


@dataclass(frozen=True)
class Truth:
    """What a data set says of one photo."""

    # int16 label maps (H, W), 0 for background; instances that overlap lie in different layers.
    layers: list[np.ndarray]
    # Labels of instances that the data set itself has in pieces that linking would not join: no
    # crop takes them apart.
    scattered: set[int]
    ignored: np.ndarray  # bool (H, W), pixels that do not count

    def union(self) -> np.ndarray:
        """All crack pixels: uint8 (H, W) of 0 and 1."""
        return np.any(self.layers, axis=0).view(np.uint8)


class CrackMapper:
    """Reads a photo, draws a crop of it and finds what the crop holds of each instance.

    Pieces of one instance that a crop has cut apart, and that linking would not join again, become
    several instances, since nothing in the crop shows that they are one.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.augmentation = cfg.CRACK.AUG
        self.image_format = cfg.INPUT.FORMAT
        self.link_gap = cfg.MODEL.CRACK_MAP.LINK_GAP
        self.rim_of = value_by_set(cfg, "LABEL_RIMS", default=0.0)

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Map one record in Detectron2's standard format, with "dataset_name".

        "image" is uint8 (3, H, W) in INPUT.FORMAT; "instances" have gt_boxes, gt_classes and
        gt_masks (`BitMasks`); "sem_seg" is uint8 (H, W), 1 for crack, `IGNORED` for what does not
        count.
        """
        keys, image = self.augmentation, read_photo_of(record)
        truth = truth_of(record, self.link_gap)
        rim = self.rim_of.get(record["dataset_name"], 0.0)
        if keys.ENABLED:
            plan = augmentation.draw_plan(truth.union(), rng, keys)
            image = augmentation.change_light(augmentation.crop_photo(image, plan), rng, keys)
            image = augmentation.degrade(image, rng, keys)
            masks, target = crop_truth(truth, plan, self.link_gap)
            rim *= plan.scale
        else:
            masks = [layer == x.label for layer in truth.layers for x in regionprops(layer)]
            target = truth.union()
            target[truth.ignored] = IGNORED
        ignore_rim(target, rim)
        if self.image_format == "RGB":
            image = image[:, :, ::-1]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "instances": to_instances(masks, target.shape),
            "sem_seg": torch.from_numpy(target),
            "height": target.shape[0],
            "width": target.shape[1],
            **{key: record[key] for key in ("file_name", "image_id", "dataset_name")},
        }


def truth_of(record: dict[str, Any], link_gap: float) -> Truth:
    """Read the annotations of a record."""
    layers = [np.zeros((record["height"], record["width"]), np.int16)]
    scattered = set()
    for label, mask in enumerate(instance_masks(record), start=1):
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        box = (slice(y, y + height), slice(x, x + width))
        inside = np.ascontiguousarray(mask[box])
        if all(layer[box][inside].any() for layer in layers):
            layers.append(np.zeros_like(layers[0]))
        free = next(layer for layer in layers if not layer[box][inside].any())
        free[box][inside] = label
        if len(_pieces(inside, link_gap)) > 1:
            scattered.add(label)
    return Truth(layers, scattered, ignored_pixels(record))


def crop_truth(
    truth: Truth, plan: augmentation.CropPlan, link_gap: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Masks of the instances in a crop, bool (size, size), and the crack map's target, uint8."""
    masks = []
    union = np.zeros((plan.size, plan.size), np.uint8)
    for layer in truth.layers:
        coverage = augmentation.crop_mask(layer > 0, plan)
        np.maximum(union, coverage, out=union)
        labels = augmentation.crop_labels(layer, plan)
        labels[coverage < 255 * LINK_COVERAGE] = 0
        crack = coverage >= 255 * CRACK_COVERAGE
        for region in regionprops(labels):
            one = region.label in truth.scattered
            for piece in [region.image] if one else _pieces(region.image, link_gap):
                piece = piece & crack[region.slice]
                if np.count_nonzero(piece) >= 8:  # less, at the crop's edge, teaches nothing
                    masks.append(np.zeros(union.shape, bool))
                    masks[-1][region.slice] = piece
    target = (union >= 255 * CRACK_COVERAGE).view(np.uint8)
    if plan.scale < 0.7:  # a crack thinner than a pixel is neither there nor absent
        target[(target == 0) & (union >= 255 * LINK_COVERAGE)] = IGNORED
    if truth.ignored.any():
        target[augmentation.crop_mask(truth.ignored, plan) > 127] = IGNORED
    return masks, target


def ignore_rim(target: np.ndarray, width: float) -> None:
    """Mark crack pixels of a target, (H, W), at most ``width`` px inside as `IGNORED`, in place."""
    if width > 0:
        depth = cv2.distanceTransform((target == 1).view(np.uint8), cv2.DIST_L2, 3)
        target[(depth > 0) & (depth <= width)] = IGNORED


def _pieces(mask: np.ndarray, link_gap: float) -> list[np.ndarray]:
    """The parts of a mask that `link_pieces` does not join, each bool (H, W)."""
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    if count <= 2:
        return [mask]
    linked = renumber(labels, link_pieces(labels, count - 1, link_gap))
    return [linked == crack for crack in range(1, int(linked.max()) + 1)]


def to_instances(masks: Sequence[np.ndarray], shape: tuple[int, ...]) -> Instances:
    """Detectron2's truth of a photo: each of N masks, bool (H, W), with its tight box."""
    stacked = np.stack(masks) if masks else np.zeros((0, *shape), bool)
    instances = Instances(tuple(shape))
    instances.gt_masks = BitMasks(torch.from_numpy(stacked))
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.zeros(len(stacked), dtype=torch.int64)
    return instances
