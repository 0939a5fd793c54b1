"""Registration against Detectron2's real catalogs, with JSON files and photos on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from crack_data import datasets as catalog
from crack_data.config import add_crack_config, load_config
from crack_data.errors import CrackError

from .coco_files import thin_crack, two_photos


@pytest.fixture(autouse=True)
def _registrations_undone() -> Iterator[None]:
    before = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def json_file(tmp_path: Path) -> Path:
    """A set of two photos, one crack in the first and none in the second, in ``photos/``."""
    (tmp_path / "photos").mkdir()
    coco = two_photos(tmp_path / "photos", thin_crack())
    return _write(tmp_path / "set.json", {**coco, "info": {"image_root": "photos"}})


def _write(path: Path, coco: Any) -> Path:
    path.write_text(json.dumps(coco))
    return path


def _changed(json_file: Path, **changes: Any) -> Path:
    return _write(json_file, {**json.loads(json_file.read_text()), **changes})


def _cfg(train: Any = (), test: Any = ()) -> CfgNode:
    cfg = get_cfg()
    add_crack_config(cfg)
    cfg.DATASETS.TRAIN = train
    cfg.DATASETS.TEST = test
    return cfg


def _import_anew() -> list[str]:
    """Execute the module once more, and return where its standard sets lie."""
    for name in catalog.STANDARD_NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    spec = find_spec("crack_data.datasets")
    spec.loader.exec_module(module_from_spec(spec))
    return [MetadataCatalog.get(name).json_file for name in catalog.STANDARD_NAMES]


def test_standard_sets_come_from_the_environment_and_read_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("datasets", str(tmp_path)):
        monkeypatch.setenv("DETECTRON2_DATASETS", folder)
        files = [f"{folder}/crack/{name}.json" for name in catalog.STANDARD_NAMES]
        assert _import_anew() == files
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert _import_anew()[1] == "datasets/crack/crack_val.json"


def test_photos_are_found_where_the_json_says(json_file: Path) -> None:
    catalog.register_crack_dataset("photos", str(json_file))
    first, second = DatasetCatalog.get("photos")
    assert first["file_name"] == str(json_file.parent / "photos" / "a.png")
    assert (first["height"], first["width"]) == (20, 30)
    assert first["annotations"][0]["category_id"] == 0
    assert second["annotations"] == []
    assert MetadataCatalog.get("photos").thing_classes == ["crack"]
    assert len(MetadataCatalog.get("photos").thing_colors) == 1


def test_a_moved_folder_still_works_as_a_whole(json_file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "photos").rename(moved / "photos")
    json_file = json_file.rename(moved / "set.json")
    catalog.register_crack_dataset("moved", str(json_file))
    assert DatasetCatalog.get("moved")[0]["file_name"] == str(moved / "photos" / "a.png")


def test_an_explicit_root_wins(json_file: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    catalog.register_crack_dataset("explicit", str(json_file), tmp_path / "elsewhere")
    assert DatasetCatalog.get("explicit")[0]["file_name"] == str(tmp_path / "elsewhere" / "a.png")
    cfg = _cfg(train=(str(json_file),))
    cfg.CRACK.IMAGE_ROOT = str(tmp_path / "elsewhere")
    catalog.register_datasets_of(cfg)
    assert len(DatasetCatalog.get(str(json_file))) == 2


def test_the_root_holds_for_the_standard_names(
    json_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = MetadataCatalog.get("crack_val").json_file
    Path(place).parent.mkdir(parents=True)
    json_file.rename(place)
    cfg = _cfg(train=("crack_val",))
    cfg.CRACK.IMAGE_ROOT = str((tmp_path / "photos").rename(tmp_path / "elsewhere"))
    try:
        catalog.register_datasets_of(cfg)
        assert DatasetCatalog.get("crack_val")[0]["file_name"].startswith(cfg.CRACK.IMAGE_ROOT)
    finally:
        for of in (DatasetCatalog, MetadataCatalog):
            of.remove("crack_val")
        catalog.register_crack_dataset("crack_val", place)


def test_registration_is_lazy_and_the_missing_json_names_its_command(tmp_path: Path) -> None:
    path = str(tmp_path / "later.json")
    catalog.register_crack_dataset("later", path)
    with pytest.raises(CrackError, match=r"convert_to_coco\.py --images DIR .* --output .*later"):
        DatasetCatalog.get("later")


def test_registering_twice(json_file: Path, tmp_path: Path) -> None:
    catalog.register_crack_dataset("twice", str(json_file))
    catalog.register_crack_dataset("twice", str(json_file))
    with pytest.raises(CrackError, match="twice is already registered"):
        catalog.register_crack_dataset("twice", "other.json")
    with pytest.raises(CrackError, match="twice is already registered"):
        catalog.register_crack_dataset("twice", str(json_file), tmp_path)


@pytest.mark.parametrize("key", ["train", "test"])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("crack_train", r"bare string 'crack_train'; write it as \"\('crack_train',\)\""),
        (("crack_trian",), r"'crack_trian', which is not registered; use one of .*crack_train"),
        (("nowhere/set.json",), r"nowhere/set\.json does not exist; make it with"),
    ],
)
def test_bad_names_are_sentences(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(CrackError, match=sentence):
        catalog.register_datasets_of(_cfg(**{key: value}))


def test_a_test_set_without_photos_is_noticed_before_training(json_file: Path) -> None:
    (json_file.parent / "photos" / "a.png").unlink()
    with pytest.raises(CrackError, match="1 of 2 photos"):
        catalog.register_datasets_of(_cfg(test=(str(json_file),)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not json", "cannot be read as JSON"),
        ("[]", "is not a COCO JSON"),
        ('{"images": []}', "is not a COCO JSON"),
    ],
)
def test_a_json_of_something_else(json_file: Path, text: str, sentence: str) -> None:
    json_file.write_text(text)
    with pytest.raises(CrackError, match=sentence):
        catalog.register_datasets_of(_cfg(train=(str(json_file),)))


def test_sets_that_will_not_be_used_need_not_be_there(json_file: Path) -> None:
    cfg = _cfg(train=("datasets/nowhere.json",), test=(str(json_file),))
    catalog.register_datasets_of(cfg, ("TEST",))
    assert len(DatasetCatalog.get(str(json_file))) > 0
    with pytest.raises(CrackError, match=r"nowhere\.json does not exist"):
        catalog.register_datasets_of(cfg)


@pytest.mark.parametrize("key", ["train", "test"])
def test_an_empty_set_is_noticed_before_training(json_file: Path, key: str) -> None:
    _changed(json_file, images=[], annotations=[])
    with pytest.raises(CrackError, match=r"DATASETS\.T.* holds no photos"):
        catalog.register_datasets_of(_cfg(**{key: (str(json_file),)}))


@pytest.mark.parametrize("ignored", [False, True])
def test_photos_without_any_crack_are_for_testing_only(json_file: Path, ignored: bool) -> None:
    annotations = json.loads(json_file.read_text())["annotations"]
    _changed(json_file, annotations=[{**x, "iscrowd": 1} for x in annotations if ignored])
    catalog.register_datasets_of(_cfg(test=(str(json_file),)))
    with pytest.raises(CrackError, match=r"no photo of DATASETS\.TRAIN .* has a crack"):
        catalog.register_datasets_of(_cfg(train=(str(json_file),)))


def test_a_set_of_several_classes_is_refused() -> None:
    DatasetCatalog.register("bridge", list)
    MetadataCatalog.get("bridge").thing_classes = ["crack", "spall"]
    with pytest.raises(CrackError, match=r"TRAIN: bridge has the classes crack, spall, all of"):
        catalog.register_datasets_of(_cfg(train=("bridge",)))


@pytest.mark.parametrize("name", ["set", "valley"])
def test_splits_of_different_conversions_are_refused(name: str, json_file: Path) -> None:
    coco = json.loads(json_file.read_text())
    files = [json_file.with_name(f"{name}_{split}.json") for split in ("train", "val")]
    for file in files:
        run = {"id": "one", "splits": ["train", "val"]}
        _write(file, {**coco, "info": {**coco["info"], "conversion": run}})
    cfg = _cfg(train=(str(files[0]),), test=(str(files[1]),))
    catalog.register_datasets_of(cfg)
    run["id"] = "two"
    _write(files[1], {**coco, "info": {**coco["info"], "conversion": run}})
    with pytest.raises(
        CrackError, match=rf"{name}_train\.json and .*{name}_val\.json come from different"
    ):
        catalog.register_datasets_of(cfg)


def test_photos_of_both_sets_are_counted(
    json_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = _write(tmp_path / "other.json", json.loads(json_file.read_text()))
    with caplog.at_level("WARNING"):
        catalog.register_datasets_of(_cfg(train=(str(json_file),), test=(str(json_file),)))
        assert "are in DATASETS.TRAIN too" not in caplog.text
        catalog.register_datasets_of(_cfg(train=(str(json_file),), test=(str(other),)))
    assert "2 photos of" in caplog.text


def test_sets_whose_results_would_be_called_alike_are_refused(
    json_file: Path, tmp_path: Path
) -> None:
    files = []
    for name in ("a_b.json", "a/b.json"):
        coco = json.loads(json_file.read_text())
        coco["info"]["image_root"] = str(json_file.parent / coco["info"]["image_root"])
        (tmp_path / name).parent.mkdir(exist_ok=True)
        files.append(str(_write(tmp_path / name, coco)))
    for path in files:
        catalog.register_datasets_of(_cfg(test=(path,)), ("TEST",))
    with pytest.raises(CrackError, match=r"a_b\.json and .*a/b\.json would be called alike"):
        catalog.register_datasets_of(_cfg(test=tuple(files)), ("TEST",))


def test_a_bare_string_in_an_override_is_caught(repo: Path) -> None:
    with pytest.raises(CrackError, match=r"DATASETS\.TRAIN mine\.json .*a list is due as"):
        load_config(str(repo / "configs" / "crack_mobilenet.yaml"), ["DATASETS.TRAIN", "mine.json"])
