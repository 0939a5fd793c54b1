"""Every key that this project adds to Detectron2's, with its meaning; how configs are read."""

import copy
from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from io import StringIO
from math import inf, isfinite
from pathlib import Path
from typing import IO, Any

import yaml
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.utils.file_io import PathManager

from .convert.linking import DEFAULT_GAP
from .errors import CrackError, as_crack_error

_PACKAGE = Path(__file__).resolve().parent

# Keys and their defaults, whose types are those that a config may give.
DEFAULTS: dict[str, Any] = {
    # File or https:// URL with ImageNet weights of the bottom-up network, in that network's own
    # key layout. Read when training starts with an empty MODEL.WEIGHTS.
    "MODEL.BACKBONE.WEIGHTS": "",
    "MODEL.MOBILENETV2.WIDTH_MULT": 1.0,
    "MODEL.MOBILENETV2.NORM": "BN",  # or FrozenBN, SyncBN
    # res1 has stride 2, res2 4, res3 8, res4 16, res5 32.
    "MODEL.MOBILENETV2.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    # The crack map of MODEL.META_ARCHITECTURE "CrackRCNN": one crack probability per pixel of the
    # photo, shared by all instances. Its levels, fine to coarse, are summed for context; then finer
    # features refine the sum, down to stride 2. "image" is the photo itself.
    "MODEL.CRACK_MAP.IN_FEATURES": ["p2"],
    "MODEL.CRACK_MAP.DETAIL_FEATURES": ["image"],
    # Channels of the context, and after each detail.
    "MODEL.CRACK_MAP.CHANNELS": [32, 32],
    "MODEL.CRACK_MAP.NORM": "BN",
    # Pixels above it that touch are one piece of a crack.
    "MODEL.CRACK_MAP.LINK_THRESHOLD": 0.3,
    # Pieces that continue each other across a gap of at most so many px, and fragments beside them,
    # are one crack: its box is a proposal, its pixels one instance. 0: every piece is a crack.
    "MODEL.CRACK_MAP.LINK_GAP": DEFAULT_GAP,
    # A crack's detector score counts as at least this, so that the map alone keeps long cracks that
    # it is sure of, though most of them lies outside all boxes: at 0.5 and a SCORE_THRESHOLD of
    # 0.69 those of a mean probability of 0.95 and more.
    "MODEL.CRACK_MAP.DETECTOR_FLOOR": 0.5,
    # A pixel is crack when its probability exceeds this and a drawn instance holds it. -1: as
    # calibrated (tools/calibrate.py), 0.5 without calibration.
    "MODEL.CRACK_MAP.THRESHOLD": -1.0,
    # Instances scored below this count for AP only: they are not drawn and not in the percentage.
    # -1: as calibrated, 0.3 without calibration.
    "MODEL.CRACK_MAP.SCORE_THRESHOLD": -1.0,
    # "sgd" is Detectron2's own optimizer; "adamw" uses SOLVER.BASE_LR and SOLVER.WEIGHT_DECAY.
    "SOLVER.OPTIMIZER": "sgd",
    # Learning-rate factor of the bottom-up network.
    "SOLVER.BACKBONE_LR_FACTOR": 1.0,
    # bf16 autocast on a CPU that multiplies bf16 natively (AMX, AVX512-BF16), else fp32. On a GPU,
    # SOLVER.AMP.ENABLED is Detectron2's own mixed precision.
    "SOLVER.CPU_BF16": False,
    # Optimizer steps happen every N iterations, on the mean gradient; SOLVER.CHECKPOINT_PERIOD and
    # TEST.EVAL_PERIOD are multiples of it.
    "SOLVER.ACCUMULATE": 1,
    # Folder of the photos of the JSONs in DATASETS; "": the one that a JSON records, or one near.
    "CRACK.IMAGE_ROOT": "",
    # One weight per name in DATASETS.TRAIN: how often its photos are drawn, relative to their
    # number. Empty: every photo equally often.
    "CRACK.SAMPLING_WEIGHTS": [],
    # Photos without cracks are drawn this many times as often as the others of their data set.
    "CRACK.CRACK_FREE_WEIGHT": 1.0,
    # One width in px per name in DATASETS.TRAIN: how far its labels may reach beyond the crack. So
    # wide a rim inside them does not count in the crack map's loss. Empty: all of a label counts.
    "CRACK.LABEL_RIMS": [],
    # Exponential moving average of the weights; evaluated and saved beside the raw ones.
    "CRACK.EMA_DECAY": 0.0,
    # Keep the running statistics of pretrained BatchNorm layers fixed while training.
    "CRACK.FREEZE_BN_STATS": False,
    # Store activations channels-last (faster convolutions on CPUs and tensor cores).
    "CRACK.CHANNELS_LAST": False,
    # The metric, as it stands in metrics.json and better the higher, that chooses model_best.pth.
    "CRACK.BEST_METRIC": "crack/f1",
    # Stop after this many evaluations without a better one (0: never).
    "CRACK.PATIENCE": 0,
    # Share of unreadable photos above which training stops; up to it they are skipped and counted.
    "CRACK.MAX_BAD_PHOTOS": 0.01,
    # False: whole photos at their own size, as they are.
    "CRACK.AUG.ENABLED": True,
    # Side of the square training crop, px; the share of crops that are placed on a crack pixel.
    "CRACK.AUG.CROP_SIZE": 320,
    "CRACK.AUG.CRACK_CROP_PROB": 0.7,
    # The photo is scaled by a factor drawn (log-uniformly) from this range before cropping.
    "CRACK.AUG.SCALE": [0.7, 1.4],
    # Largest rotation, degrees, and its probability; quarter turns and mirroring come in any case.
    "CRACK.AUG.ROTATE_DEGREES": 15.0,
    "CRACK.AUG.ROTATE_PROB": 0.3,
    # Largest relative change of contrast and saturation; of brightness twice the largest offset, as
    # a share of 255.
    "CRACK.AUG.BRIGHTNESS": 0.3,
    "CRACK.AUG.CONTRAST": 0.3,
    "CRACK.AUG.SATURATION": 0.3,
    # Probabilities of blur, sensor noise, JPEG artefacts and a cast shadow.
    "CRACK.AUG.BLUR_PROB": 0.15,
    "CRACK.AUG.NOISE_PROB": 0.15,
    "CRACK.AUG.JPEG_PROB": 0.15,
    "CRACK.AUG.SHADOW_PROB": 0.15,
    # Photos longer than this (px; 0: none) are predicted in overlapping tiles, at most so large:
    # not much larger than what training shows, or the detector is sure of no long crack.
    "CRACK.INFERENCE.TILE_SIZE": 640,
    # Least overlap of neighbouring tiles, px: at most half of TILE_SIZE.
    "CRACK.INFERENCE.TILE_OVERLAP": 32,
    # "auto": on a CPU the network is compiled by OpenVINO; "off": it runs in PyTorch.
    "CRACK.INFERENCE.FAST": "auto",
    # fp32, bf16, or auto: bf16 where the processor computes it natively, but for the dense part of
    # networks other than MobileNetV2 and ResNets.
    "CRACK.INFERENCE.PRECISION": "auto",
}


def add_crack_config(cfg: CN) -> None:
    """Add `DEFAULTS` to a Detectron2 config in place."""
    add_pointrend_config(cfg)  # a comparison config chooses its mask head
    # Of earlier versions: configs that their trainings have saved still load.
    for key in (
        "MODEL.EFFICIENTNET_LITE", "CRACK.VALIDATION_LOSS",
        "MODEL.CRACK_MAP.LOSS_WEIGHT", "MODEL.CRACK_MAP.DICE_WEIGHT",
    ):  # fmt: skip
        cfg.register_deprecated_key(key)
    for key, default in DEFAULTS.items():
        *groups, name = key.split(".")
        node = reduce(lambda node, group: node.setdefault(group, CN()), groups, cfg)
        node[name] = copy.copy(default)


# Lowest and highest numbers of a key, or of all that begin so where they have no line of their own:
# those whose faults would show late in a training, or not at all.
_RANGES = {
    "": (-inf, inf),
    "SEED": (-inf, 2**32 - 1),
    "DATALOADER.": (0, inf),
    "INPUT.": (0, inf),
    "INPUT.MAX_SIZE_TEST": (1, inf),
    "SOLVER.": (0, inf),
    "SOLVER.MOMENTUM": (0, 1),
    "SOLVER.MAX_ITER": (1, inf),
    "SOLVER.CHECKPOINT_PERIOD": (1, inf),
    "SOLVER.ACCUMULATE": (1, inf),
    "SOLVER.IMS_PER_BATCH": (1, inf),
    "MODEL.CRACK_MAP.": (0, inf),
    "MODEL.CRACK_MAP.LINK_THRESHOLD": (0, 1),
    "MODEL.CRACK_MAP.DETECTOR_FLOOR": (0, 1),
    "MODEL.CRACK_MAP.THRESHOLD": (-1, 1),
    "MODEL.CRACK_MAP.SCORE_THRESHOLD": (-1, 1),
    "CRACK.": (0, inf),
    "CRACK.EMA_DECAY": (0, 1),
    "CRACK.MAX_BAD_PHOTOS": (0, 1),
    "CRACK.AUG.": (0, 1),
    "CRACK.AUG.CROP_SIZE": (32, 8192),
    "CRACK.AUG.SCALE": (0, inf),
    "CRACK.AUG.ROTATE_DEGREES": (0, 360),
}
_CHOICES = {
    "INPUT.FORMAT": ("RGB", "BGR"),
    "MODEL.LOAD_PROPOSALS": (False,),  # True reads pickles, which could run any code
    "SOLVER.OPTIMIZER": ("sgd", "adamw"),
    "CRACK.INFERENCE.FAST": ("auto", "off"),
    "CRACK.INFERENCE.PRECISION": ("auto", "fp32", "bf16"),
}


class _LocalFile(CN):
    """Reads YAML of plain values from local files; Detectron2 would run code and download."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        if "://" in filename:
            raise ValueError(f"_BASE_ {filename} is a URL; save it and name the file")
        with as_crack_error(f"config file {filename} cannot be used"):
            text = Path(filename).read_text("utf-8")
            _refuse_repeated_keys(yaml.compose(text, yaml.SafeLoader))
            return StringIO(text)


def _refuse_repeated_keys(node: yaml.Node | None) -> None:
    """A ValueError where a key stands twice in one place; of a group all but the last is lost."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"{twice} stands twice in one place; join them")
        for _, inner in node.value:
            _refuse_repeated_keys(inner)


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CN:
    """A YAML config over all defaults, then KEY VALUE pairs; a `CrackError` where one is unfit."""
    cfg = get_cfg()
    add_crack_config(cfg)
    with as_crack_error(f"config file {config_file} cannot be used"):
        content = _LocalFile.load_yaml_with_base(config_file)
        if not isinstance(content, dict):
            raise ValueError("it holds no KEY: VALUE")
        cfg.merge_from_other_cfg(CN(_with_floats(content, cfg)))
    if flag := next((key for key in overrides[::2] if key.startswith("-")), ""):
        raise CrackError(f"{flag} stands after KEY VALUE pairs; put flags before the first of them")
    if len(overrides) % 2:
        raise CrackError(f"overrides come as KEY VALUE pairs; {overrides[-1]!r} has no value")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        due = " (a list is due as \"('crack_train',)\")" * key.startswith("DATASETS.")
        with as_crack_error(f"the override {key} {value} cannot be used{due}"):
            if isinstance(value, str):
                with suppress(AttributeError, ValueError, SyntaxError):
                    own, given = value_at(cfg, key), literal_eval(value)
                    if isinstance(given, int | float):  # a folder's name may be a number
                        value = repr(value) if isinstance(own, str) else _with_floats(given, own)
            cfg.merge_from_list([key, value])
    check_values(cfg)
    return cfg


def _with_floats(given: Any, default: Any) -> Any:
    """Values of a config, as floats where they are whole numbers and their keys take floats."""
    if isinstance(given, dict) and isinstance(default, dict):
        return {key: _with_floats(value, default.get(key)) for key, value in given.items()}
    return float(given) if type(given) is int and isinstance(default, float) else given


def shipped(path: str) -> Path:
    """Where a file of configs/ or checkpoints/ lies, in a wheel, or would lie in a checkout."""
    carried = _PACKAGE / path  # in a wheel
    return carried if carried.exists() else _PACKAGE.parent / path


def load_predict_config(
    config_file: str | None = None, weights: str | None = None, overrides: Sequence[str] = ()
) -> CN:
    """The config for prediction, not frozen, with a checkpoint named.

    Without ``config_file`` it is the shipped model's; without ``weights`` the checkpoint is its
    MODEL.WEIGHTS, looked for below the working folder and then beside the shipped configs.
    """
    name = config_file or str(shipped("configs/predict_mobilenet.yaml"))
    cfg = load_config(name, overrides)
    if weights is not None:
        cfg.MODEL.WEIGHTS = weights
    if not cfg.MODEL.WEIGHTS:
        raise CrackError(f"config file {name} names no MODEL.WEIGHTS; give --weights")
    if "://" in cfg.MODEL.WEIGHTS:
        with as_crack_error(f"checkpoint {cfg.MODEL.WEIGHTS} cannot be fetched"):
            cfg.MODEL.WEIGHTS = PathManager.get_local_path(cfg.MODEL.WEIGHTS)
    elif not Path(cfg.MODEL.WEIGHTS).exists():
        found = shipped(cfg.MODEL.WEIGHTS)
        if weights is not None or not found.exists():
            raise CrackError(f"checkpoint {cfg.MODEL.WEIGHTS} does not exist; give --weights")
        cfg.MODEL.WEIGHTS = str(found)
    return cfg


def value_at(cfg: CN, key: str) -> Any:
    """The value of a key as a config writes it, such as SOLVER.BASE_LR."""
    return reduce(getattr, key.split("."), cfg)


def check_values(cfg: CN) -> None:
    """Raise `CrackError` where a key has a value that no prediction or training can have."""
    for key, number in leaves(cfg):
        if number is None and key != "SOLVER.WEIGHT_DECAY_BIAS":  # Detectron2's own default
            raise CrackError(f"{key} has no value; give it one or leave it out")
        if not isinstance(number, int | float):
            continue
        if not isfinite(number):
            raise CrackError(f"{key} is {number}; it must be a finite number")
        low, high = _RANGES[max((x for x in _RANGES if key.startswith(x)), key=len)]
        if not low <= number <= high:
            wanted = f"between {low} and {high}" if high < inf else f"{low} or more"
            raise CrackError(f"{key} is {number}; it must be {wanted}")
    for key, choices in _CHOICES.items():
        value = value_at(cfg, key)
        if value not in choices:
            raise CrackError(f"{key} is {value!r}; use {' or '.join(map(str, choices))}")
    scale = cfg.CRACK.AUG.SCALE
    numbers = all(isinstance(factor, int | float) for factor in scale)
    if not numbers or len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise CrackError(f"CRACK.AUG.SCALE is {scale}; it must be two factors, the smaller first")
    size, overlap = cfg.CRACK.INFERENCE.TILE_SIZE, cfg.CRACK.INFERENCE.TILE_OVERLAP
    if size and not 0 < 2 * overlap <= size:
        wanted = f"more than 0 and at most {size / 2:g}, half of TILE_SIZE"
        raise CrackError(f"CRACK.INFERENCE.TILE_OVERLAP is {overlap}; it must be {wanted}")


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Each value in nested dictionaries and lists, with its key, such as SOLVER.BASE_LR."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value
