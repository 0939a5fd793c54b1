"""Pictures of what training sees, from a converted set of drawn photos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from crack_data.convert.conversion import convert
from crack_data.convert.worker import ConversionOptions
from crack_data.datasets import folder_name
from crack_data.errors import CrackError
from crack_data.synthetic import write_photos
from crack_data.visualization import _draw, visualize

from .conftest import ToolRun


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_photos(folder, 3, height=96, width=128)
    output = folder / "set.json"
    convert(ConversionOptions(folder / "images", folder / "masks", output, workers=1))
    return folder


@pytest.fixture
def json_file(drawn: Path, tmp_path: Path) -> Iterator[str]:
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)
    output = tmp_path / "set.json"
    yield str(output)
    if str(output) in DatasetCatalog:
        DatasetCatalog.remove(str(output))
        MetadataCatalog.remove(str(output))


@pytest.fixture
def cfg(tiny_crack_config: Callable[[], CfgNode], json_file: str) -> CfgNode:
    cfg = tiny_crack_config()
    cfg.DATASETS.TRAIN = (json_file,)
    cfg.DATASETS.TEST = ()
    return cfg


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def test_annotations_are_drawn_over_whole_photos(cfg: CfgNode, tmp_path: Path) -> None:
    files = visualize(cfg, "annotation", tmp_path / "drawn", 10)
    assert [path.name for path in files] == [f"0000{i}_drawn_0000{i}.png" for i in range(3)]
    for index, path in enumerate(files):
        drawn, photo = _read(path), _read(tmp_path / "images" / f"drawn_0000{index}.jpg")
        assert drawn.shape == (192, 256, 3)
        mask = _read(tmp_path / "masks" / f"drawn_0000{index}.png")[..., 0]
        near = cv2.dilate(mask, np.ones((5, 5))) > 0
        same = cv2.resize(drawn, (128, 96), interpolation=cv2.INTER_AREA)
        changed = np.abs(same.astype(int) - photo).max(axis=-1) > 20
        if mask.any():
            assert changed[mask > 0].mean() > 0.3
            assert changed[mask > 0].mean() > 3 * changed[~near].mean()


def test_what_a_crack_goes_round_is_not_coloured() -> None:
    ring = np.zeros((120, 120), np.uint8)
    cv2.circle(ring, (60, 60), 50, 1, 3)
    photo = np.full((120, 120, 3), 128, np.uint8)
    drawn = _draw(photo, [ring.astype(bool)], np.zeros(ring.shape, bool))
    small = cv2.resize(drawn, (120, 120), interpolation=cv2.INTER_AREA)
    changed = np.abs(small.astype(int) - photo).max(axis=-1) > 20
    assert changed[ring > 0].mean() > 0.9
    assert not changed[40:80, 40:80].any()


def test_overlapping_instances_and_ignored_pixels_have_their_own_colours(
    cfg: CfgNode, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((60, 80, 3), 60, np.uint8))
    shapes = [[[4, 20, 70, 20, 70, 30, 4, 30]], [[30, 4, 40, 4, 40, 50, 30, 50]]]
    rows = [
        {"id": index, "image_id": 1, "category_id": 1, "segmentation": shape, "iscrowd": crowd}
        for index, (shape, crowd) in enumerate(
            [(shapes[0], 0), (shapes[1], 0), ([[50, 40, 78, 40, 78, 58, 50, 58]], 1)]
        )
    ]
    coco = {
        "images": [{"id": 1, "file_name": "grey.png", "width": 80, "height": 60}],
        "annotations": rows,
        "categories": [{"id": 1, "name": "crack"}],
    }
    path = tmp_path / "by_hand.json"
    path.write_text(json.dumps(coco))
    cfg.DATASETS.TRAIN = (str(path),)
    (file,) = visualize(cfg, "annotation", tmp_path / "drawn", 1)
    drawn = _read(file).astype(int)
    first, second, ignored, plain = (
        drawn[2 * y, 2 * x] for x, y in ((15, 25), (35, 10), (64, 49), (5, 55))
    )
    assert np.abs(first - second).max() > 60
    assert np.ptp(ignored) < 10 < np.abs(ignored - plain).max()


def test_the_loader_is_drawn_with_its_augmentation(cfg: CfgNode, tmp_path: Path) -> None:
    files = visualize(cfg, "dataloader", tmp_path / "drawn", 3)
    assert len(files) == 3
    side = 2 * cfg.CRACK.AUG.CROP_SIZE
    assert all(_read(path).shape == (side, side, 3) for path in files)
    again = visualize(cfg, "dataloader", tmp_path / "again", 3)
    assert [path.name for path in again] == [path.name for path in files]


def test_predictions_stand_beside_the_truth(cfg: CfgNode, tmp_path: Path) -> None:
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), cfg.DATASETS.TRAIN
    (file,) = visualize(cfg, "prediction", tmp_path / "drawn", 3)
    assert file.name == f"contact_sheet_{folder_name(cfg.DATASETS.TEST[0])}.png"
    _, columns = _read(file).shape[:2]
    assert columns == 2 * (4 * 244 - 4) + 16
    cfg.DATASETS.TEST = ()
    with pytest.raises(CrackError, match=r"DATASETS\.TEST is empty"):
        visualize(cfg, "prediction", tmp_path / "drawn", 3)


def test_a_photo_without_cracks_is_drawn_as_it_is(cfg: CfgNode, tmp_path: Path) -> None:
    for path in (tmp_path / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros((96, 128), np.uint8))
    output = Path(cfg.DATASETS.TRAIN[0])
    convert(ConversionOptions(tmp_path / "images", tmp_path / "masks", output, workers=1))
    for source in ("annotation", "dataloader"):
        assert len(visualize(cfg, source, tmp_path / source, 2)) == 2


def test_a_photo_that_became_unreadable_is_named(cfg: CfgNode, tmp_path: Path) -> None:
    (tmp_path / "images" / "drawn_00000.jpg").write_text("no photo")
    with pytest.raises(CrackError, match=r"drawn_00000\.jpg"):
        visualize(cfg, "annotation", tmp_path / "drawn", 1)
    with pytest.raises(CrackError, match=r"1 of 3 photos cannot be read.*drawn_00000\.jpg"):
        visualize(cfg, "dataloader", tmp_path / "drawn", 9)


def test_the_tools(
    repo: Path,
    json_file: str,
    tmp_path: Path,
    run_tool: Callable[..., ToolRun],
) -> None:
    done = run_tool(
        "visualize_data.py",
        *("--config-file", repo / "configs/crack_mobilenet.yaml"),
        *("--source", "annotation", "--output", tmp_path / "drawn", "--count", "2"),
        *("DATASETS.TRAIN", f"('{json_file}',)", "DATASETS.TEST", "()"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"2 pictures in {tmp_path / 'drawn'}\n"
    assert len(list((tmp_path / "drawn").iterdir())) == 2


@pytest.mark.parametrize(
    ("tool", "words", "sentence"),
    [
        ("make_synthetic", ("--size", "12"), "--size 12 is not WIDTHxHEIGHT"),
        ("make_synthetic", ("--size", "16x16"), "32 to 8192 px"),
        ("make_synthetic", ("--count", "0"), "--count must be 1 or more"),
        ("benchmark", ("--rounds", "0"), "--rounds must be 1 or more"),
    ],
)
def test_tools_say_what_is_wrong(
    tmp_path: Path,
    tool: str,
    words: tuple[str, ...],
    sentence: str,
    run_tool: Callable[..., ToolRun],
) -> None:
    done = run_tool(f"{tool}.py", "--output", tmp_path / "drawn", *words)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize("flags", [["--worst"], ["--weights", "own.pth"]])
def test_flags_of_predictions_mean_nothing_elsewhere(
    flags: list[str], run_tool: Callable[..., ToolRun]
) -> None:
    config = ["--config-file", "configs/crack_mobilenet.yaml"]
    done = run_tool("visualize_data.py", *config, "--source", "annotation", *flags)
    assert done.returncode == 1
    assert "error: --worst and --weights are for --source prediction; leave them" in done.stderr
