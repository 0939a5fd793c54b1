from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

from crack_data.evaluation.average_precision import (
    average_precision,
    encode_instances,
    instances_by_definition,
)
from crack_data.inference.prediction import CrackInstance
from tests.evaluation.test_instance_metrics import draw, instance

SIZE = (100, 160)


def random_photo(rng: np.random.Generator) -> tuple[list[CrackInstance], list[CrackInstance]]:
    """True lines, and predictions that are a little off, some of them lost, some invented."""
    true, predicted = [], []
    for _ in range(rng.integers(0, 5)):
        points = rng.integers(5, 95, (2, 2))
        true.append(instance(draw(*points.tolist(), width=int(rng.integers(2, 9)))))
        moved = points + rng.integers(-3, 4, (2, 2)) + 40 * (rng.random() < 0.2)
        mask = draw(*moved.tolist(), width=int(rng.integers(2, 9)))
        predicted.append(instance(mask, float(rng.random())))
    return true, sorted(predicted, key=lambda x: -x.score)


def frame(crack: CrackInstance) -> np.ndarray:
    x0, y0, x1, y1 = crack.box
    full = np.zeros(SIZE, bool)
    full[y0:y1, x0:x1] = crack.mask
    return full


def by_detectron2(photos: list, folder: Path) -> dict[str, dict[str, float]]:
    """What Detectron2's own evaluator says."""
    annotations = []
    for image_id, (true, _) in enumerate(photos):
        for crack in true:
            rle = coco_mask.encode(np.asfortranarray(frame(crack).astype(np.uint8)))
            area, box = float(coco_mask.area(rle)), coco_mask.toBbox(rle).tolist()
            rle["counts"] = rle["counts"].decode()
            about = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1}
            annotations.append(
                about | {"segmentation": rle, "area": area, "bbox": box, "iscrowd": 0}
            )
    images = [
        {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
        for i in range(len(photos))
    ]
    coco = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "crack"}],
        "info": {},
    }
    (folder / "coco.json").write_text(json.dumps(coco))
    name = f"test_average_precision_{folder.name}"
    register_coco_instances(name, {}, str(folder / "coco.json"), str(folder))
    try:
        evaluator = COCOEvaluator(name, output_dir=str(folder), use_fast_impl=False)
        DatasetCatalog.get(name)  # reads the category's number
        evaluator.reset()
        for image_id, (_, predicted) in enumerate(photos):
            found = Instances(SIZE)
            found.pred_boxes = Boxes(
                torch.tensor([x.box for x in predicted]).reshape(-1, 4).float()
            )
            found.scores = torch.tensor([x.score for x in predicted])
            found.pred_classes = torch.zeros(len(predicted), dtype=torch.int64)
            masks = np.array([frame(x) for x in predicted]).reshape(-1, *SIZE)
            found.pred_masks = torch.from_numpy(masks)
            evaluator.process([{"image_id": image_id}], [{"instances": found}])
        return evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)


@pytest.mark.parametrize("seed", range(3))
def test_equals_detectron2s_evaluator(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    photos = [random_photo(rng) for _ in range(12)]
    encoded = [encode_instances(SIZE, true, found, [], 12)["own"] for true, found in photos]
    theirs = by_detectron2(photos, tmp_path)
    for kind in ("bbox", "segm"):
        ours = average_precision(encoded, kind)
        assert ours["AP50"] > 0
        for name, value in ours.items():
            assert value == pytest.approx(theirs[kind][name], abs=1e-6), (kind, name)


LEFT, NEAR, FAR = draw((5, 50), (40, 50)), draw((50, 50), (90, 50)), draw((120, 50), (150, 50))


def test_definitions() -> None:
    """One hand-made instance of two pieces, and one far away."""
    cracks = [instance(LEFT | NEAR, 0.5), instance(FAR, 0.25)]
    found = instances_by_definition(cracks, SIZE, 12)
    shapes = {name: [(x.score, x.box) for x in each] for name, each in found.items()}
    left, near, far = (instance(x).box for x in (LEFT, NEAR, FAR))
    both = (left[0], left[1], near[2], near[3])
    assert shapes["own"] == shapes["linked"] == [(0.5, both), (0.25, far)]
    assert shapes["components"] == [(0.5, left), (0.5, near), (0.25, far)]
    assert shapes["single"] == [(0.5, (left[0], left[1], far[2], far[3]))]
    assert (frame(found["single"][0]) == LEFT | NEAR | FAR).all()
    assert instances_by_definition([], SIZE, 12) == {name: [] for name in found}


def test_a_definition_decides_whether_pieces_are_mistakes() -> None:
    """The whole crack against its two pieces: wrong as instances, right once linked."""
    photo = encode_instances(
        SIZE, [instance(LEFT | NEAR)], [instance(LEFT), instance(NEAR)], [], 12
    )
    values = {name: average_precision([x], "segm")["AP50"] for name, x in photo.items()}
    assert values.pop("own") < 60
    assert list(values.values()) == pytest.approx([100, 100, 100])


def test_rejected_instances_rank_below_and_are_joined_apart() -> None:
    photo = encode_instances(
        SIZE, [instance(LEFT)], [instance(LEFT, 0.9)], [instance(NEAR, 0.1)], 12
    )
    _, predicted = photo["linked"]
    assert [score for _, score in predicted] == [pytest.approx(0.9), pytest.approx(0.1)]
    assert average_precision([photo["linked"]], "segm")["AP"] == pytest.approx(100)
    photo = encode_instances(SIZE, [instance(LEFT)], [], [instance(LEFT, 0.1)], 12)
    assert average_precision([photo["own"]], "segm")["AP"] == pytest.approx(100)


def test_nothing_true_or_nothing_predicted() -> None:
    quiet = encode_instances(SIZE, [instance(LEFT)], [], [], 12)["own"]
    assert average_precision([quiet], "segm") == {"AP": 0, "AP50": 0, "AP75": 0}
    free = encode_instances(SIZE, [], [instance(LEFT)], [], 12)["own"]
    assert average_precision([free], "bbox") == {}
