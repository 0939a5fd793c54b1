"""A smaller crack map learns from a trained one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from benchmarks.distil_map import map_loss, take_over, teach, turn
from crack_data.convert.conversion import convert
from crack_data.convert.worker import ConversionOptions
from crack_data.datasets import register_datasets_of
from crack_data.photos import read_photo
from crack_data.synthetic import write_photos

HEAD = "crack_map_head."


def test_a_view_turned_back_is_the_photo() -> None:
    photo = torch.randn(2, 3, 4, 6)
    views = [turn(photo, view) for view in range(8)]
    assert all(torch.equal(turn(x, n, back=True), photo) for n, x in enumerate(views))
    assert len({(x.shape, tuple(x.flatten().tolist())) for x in views}) == 8


def test_the_loss_is_least_at_the_map_that_is_taught() -> None:
    logits = torch.randn(2, 8, 8)
    assert float(map_loss(logits, logits.sigmoid())) == pytest.approx(0, abs=1e-5)
    assert float(map_loss(logits + 0.5, logits.sigmoid())) > 0.01


def test_a_head_takes_over_the_channels_that_count_most(tiny_crack_config: Callable) -> None:
    wide = build_model(tiny_crack_config()).crack_map_head.eval()
    cfg = tiny_crack_config()
    cfg.MODEL.CRACK_MAP.CHANNELS = [32, 4]
    narrow = build_model(cfg).crack_map_head.eval()
    counting = list(range(3, 16, 4))  # four of sixteen channels; the others are cut off here
    with torch.no_grad():
        for following in (wide.last, wide.predictor):
            others = torch.ones(16, dtype=torch.bool)
            others[counting] = False
            following.weight[:, others] = 0
    take_over(narrow, {f"{HEAD}{k}": x for k, x in wide.state_dict().items()})
    assert torch.equal(narrow.refine[0].weight, wide.refine[0].weight[counting])
    assert torch.equal(narrow.predictor.weight, wide.predictor.weight[:, counting])
    assert torch.equal(narrow.context[0].weight, wide.context[0].weight)


def test_only_the_head_learns_and_it_learns(tiny_crack_config: Callable, tmp_path: Path) -> None:
    write_photos(tmp_path, 4, height=96, width=96)
    output = tmp_path / "drawn.json"
    convert(ConversionOptions(tmp_path / "images", tmp_path / "masks", output))
    cfg = tiny_crack_config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (str(output),), ()
    register_datasets_of(cfg)
    teacher, pupil = build_model(cfg).eval(), build_model(cfg).eval()
    teacher.crack_map_head.predictor.weight.data *= 100  # a map that shows something
    pupil.load_state_dict(teacher.state_dict())
    pupil.crack_map_head.predictor.weight.data.zero_()
    before = {k: x.clone() for k, x in pupil.state_dict().items()}
    pupil.requires_grad_(False)
    drawn = torch.from_numpy(read_photo(tmp_path / "images" / "drawn_00000.jpg"))
    photo = teacher.preprocess_image([{"image": drawn.permute(2, 0, 1)}]).tensor
    with torch.no_grad():
        taught = teacher.crack_map_head(teacher.backbone(photo), photo).sigmoid()
        features = pupil.backbone(photo)
        start = map_loss(pupil.crack_map_head(features, photo), taught)
    head = teach(cfg, teacher, pupil, iterations=30, rate=1e-2, turned=False).eval()
    with torch.no_grad():
        assert map_loss(head(features, photo), taught) < 0.8 * start
    after = pupil.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if not k.startswith(HEAD))
