"""Configs: each of ours loads and builds; a mistake is named in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.modeling import build_model

import crack_data.modeling  # noqa: F401 - registers what the configs name
from crack_data.config import check_values, load_config
from crack_data.errors import CrackError

CONFIGS = sorted(
    path
    for path in (Path(__file__).parents[1] / "configs").rglob("*.yaml")
    if not path.name.startswith("Base-")
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_its_model(path: Path) -> None:
    cfg = load_config(str(path), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    check_values(cfg)
    model = build_model(cfg)
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    assert model.roi_heads.num_classes == 1


def test_the_configs_choose_the_backbone() -> None:
    names = {
        path.stem: load_config(str(path)).MODEL.BACKBONE.NAME
        for path in CONFIGS
        if path.parent.name == "configs"
    }
    assert names["crack_r101"] == "build_resnet_fpn_backbone"
    assert names["crack_mobilenet"] == "build_mobilenetv2_fpn_backbone"
    assert names["crack_mobilenet_fpn256"] == "build_mobilenetv2_fpn_backbone"


def test_overrides_come_last(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("SOLVER:\n  MAX_ITER: 5\n")
    assert load_config(str(file)).SOLVER.MAX_ITER == 5
    assert load_config(str(file), ["SOLVER.MAX_ITER", "7"]).SOLVER.MAX_ITER == 7
    score = load_config(str(file), ["MODEL.CRACK_MAP.SCORE_THRESHOLD", 0.65]).MODEL.CRACK_MAP
    assert score.SCORE_THRESHOLD == 0.65


@pytest.mark.parametrize("name", ["2024", "1.0", "1e5", "no number"])
def test_a_folder_may_be_called_by_a_number(name: str) -> None:
    found = load_config("configs/crack_mobilenet.yaml", ["OUTPUT_DIR", name]).OUTPUT_DIR
    assert found == name


def test_a_whole_number_stands_for_a_float(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("SOLVER:\n  WEIGHT_DECAY: 0\nCRACK:\n  AUG:\n    BLUR_PROB: 1\n")
    cfg = load_config(str(file), ["MODEL.CRACK_MAP.SCORE_THRESHOLD", "1"])
    numbers = cfg.SOLVER.WEIGHT_DECAY, cfg.CRACK.AUG.BLUR_PROB, cfg.MODEL.CRACK_MAP.SCORE_THRESHOLD
    assert [(x, type(x)) for x in numbers] == [(0, float), (1, float), (1, float)]
    file.write_text("SOLVER:\n  AMP:\n    ENABLED: 1\n")
    with pytest.raises(CrackError, match=r"own\.yaml cannot be used"):
        load_config(str(file))


@pytest.mark.parametrize(
    ("text", "overrides", "named"),
    [
        ("SOLVER:\n  MAX_ITERS: 5\n", [], "own.yaml.*SOLVER.MAX_ITERS"),
        ("SOLVER: [1\n", [], "own.yaml"),
        ("MODEL:\n  MASK_ON: maybe\n", [], "own.yaml.*MODEL.MASK_ON"),
        ("", [], "own.yaml"),
        ("- 1\n", [], "own.yaml.*holds no KEY: VALUE"),
        ("words\n", [], "own.yaml.*holds no KEY: VALUE"),
        ("_BASE_: gone.yaml\n", [], "gone.yaml cannot be used: No such file"),
        ("_BASE_: 5\n", [], "own.yaml"),
        ("_BASE_: own.yaml\n", [], "own.yaml.*recursion"),
        ("SOLVER: {MAX_ITER: 7}\nSOLVER: {BASE_LR: 1.0}\n", [], "own.yaml.*SOLVER stands twice in"),
        ("CRACK:\n  AUG: {BLUR_PROB: 1}\n  AUG: {}\n", [], "own.yaml.*AUG stands twice in one"),
        ("DATASETS:\n  TEST:\n", [], "^DATASETS.TEST has no value; give it one or leave it out"),
        ("{}", ["CRACK.PATIENCE", "None"], "^CRACK.PATIENCE has no value"),
        ("{}", ["SOLVER.MAX_ITERS", "5"], r"override SOLVER\.MAX_ITERS 5 cannot be used: "),
        ("{}", ["SOLVER.MAX_ITER"], "SOLVER.MAX_ITER.*no value"),
        ("{}", ["SOLVER.MAX_ITER", "5", "--resume"], "^--resume stands after KEY VALUE pairs; put"),
        ("{}", ["SEED", "-1", "--image-root", "in", "SEED", "-1"], "^--image-root stands after"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, overrides: list[str], named: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(CrackError, match=named):
        load_config(str(file), overrides)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("SOLVER.CHECKPOINT_PERIOD", "0", "is 0; it must be 1 or more"),
        ("SOLVER.BASE_LR", "-0.1", "is -0.1; it must be 0 or more"),
        ("SOLVER.BASE_LR", "1e999", "is inf; it must be a finite number"),
        ("MODEL.PIXEL_STD", "[1.0, 1e999]", "is inf; it must be a finite number"),
        ("SOLVER.BACKBONE_LR_FACTOR", "-1.0", "is -1.0; it must be 0 or more"),
        ("SEED", "4294967296", "is 4294967296; it must be between"),
        ("INPUT.MAX_SIZE_TEST", "0", "is 0; it must be 1 or more"),
        ("INPUT.MIN_SIZE_TEST", "-1", "is -1; it must be 0 or more"),
        ("CRACK.EMA_DECAY", "1.5", "is 1.5; it must be between 0 and 1"),
        ("CRACK.AUG.BLUR_PROB", "1.5", "is 1.5; it must be between 0 and 1"),
        ("CRACK.LABEL_RIMS", "[1.0, -1.0]", "is -1.0; it must be 0 or more"),
        ("CRACK.AUG.SCALE", "[2.0, 1.0]", "is .2.0, 1.0.; it must be two factors"),
        ("CRACK.AUG.SCALE", "['a', 'b']", "is .'a', 'b'.; it must be two factors"),
        ("CRACK.AUG.SCALE", "[1.0]", "is .1.0.; it must be two factors"),
        ("INPUT.FORMAT", "rgb", "is 'rgb'; use RGB or BGR"),
        ("MODEL.LOAD_PROPOSALS", "True", "is True; use False"),  # pickles could run any code
        ("CRACK.INFERENCE.PRECISION", "int8", "is 'int8'; use auto or fp32 or bf16"),
        ("CRACK.INFERENCE.TILE_OVERLAP", "0", "is 0; it must be more than 0 and at most 320"),
        ("CRACK.INFERENCE.TILE_OVERLAP", "321", "is 321; it must be more than 0 and at most 320"),
    ],
)
def test_a_value_that_no_model_can_have(key: str, value: str, sentence: str) -> None:
    with pytest.raises(CrackError, match=f"{key} {sentence}"):
        load_config("configs/crack_mobilenet.yaml", [key, value])


def test_a_missing_config_is_named() -> None:
    with pytest.raises(CrackError, match=r"no/such\.yaml cannot be used: No such file"):
        load_config("no/such.yaml")


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir ['{mark}']",
        "!!python/object/new:os.mkdir ['{mark}']",
        "!!python/name:os.mkdir",
        "!!python/tuple [1, 2]",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_configs_hold_plain_values(tmp_path: Path, value: str, nested: bool) -> None:
    mark = tmp_path / "executed"
    (tmp_path / "own.yaml").write_text(f"MODEL:\n  WEIGHTS: {value.format(mark=mark)}\n")
    (tmp_path / "outer.yaml").write_text("_BASE_: [own.yaml]\n")
    file = tmp_path / ("outer.yaml" if nested else "own.yaml")
    with pytest.raises(CrackError, match=f"{file.name} cannot be used: .*python"):
        load_config(str(file))
    assert not mark.exists()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.yaml", "file:///etc/a.yaml", "s3://b/a.yaml"]
)
def test_bases_are_local_files(tmp_path: Path, url: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"_BASE_: {url}\n")
    with pytest.raises(CrackError, match=r"_BASE_ .*a\.yaml is a URL; save it"):
        load_config(str(file))


def test_keys_of_earlier_versions_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "MODEL:\n  EFFICIENTNET_LITE:\n    NORM: BN\n  CRACK_MAP:\n    DICE_WEIGHT: 1.0\n"
        "CRACK:\n  VALIDATION_LOSS: true\n"
    )
    assert "VALIDATION_LOSS" not in load_config(str(file), ["CRACK.VALIDATION_LOSS", "0"]).CRACK


def test_stages_are_frozen_by_detectron2_s_key() -> None:
    for name in ("crack_mobilenet", "crack_mobilenet_fpn256"):
        assert load_config(f"configs/{name}.yaml").MODEL.BACKBONE.FREEZE_AT == 0
    off = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", "2"]
    model = build_model(load_config("configs/crack_mobilenet.yaml", off))
    frozen = {name for name, x in model.named_parameters() if not x.requires_grad}
    assert any("features.0." in name for name in frozen)
    assert not any("features.18." in name for name in frozen)
