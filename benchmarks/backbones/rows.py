"""What the benchmark compares: a config, run by a path, at a size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from crack_data.config import load_config, shipped
from crack_data.errors import CrackError

from .stand_in import stand_in_weights


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what the reader sees.
        cfg: the config, with MODEL.WEIGHTS.
        trained: whether these weights are trained ones.
    """

    name: str
    cfg: CfgNode
    trained: bool

    @property
    def path(self) -> str:
        """Which path runs it: "fast" or "Detectron2"."""
        return "Detectron2" if self.cfg.CRACK.INFERENCE.FAST == "off" else "fast"


_STOCK = ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "CRACK.INFERENCE.FAST", "off")
_AT_320 = ("INPUT.MIN_SIZE_TEST", "320", "INPUT.MAX_SIZE_TEST", "640")
_OFF = ("CRACK.INFERENCE.FAST", "off")
# Photos with many separate cracks are rare, and the crack map proposes too.
_BOUNDED = ("MODEL.RPN.POST_NMS_TOPK_TEST", "50", "TEST.DETECTIONS_PER_IMAGE", "20")
# The first is what the others are compared with: Detectron2 as it comes.
_DEFAULTS = (
    ("R101-FPN, stock Detectron2, 800 px", "crack_r101.yaml", _STOCK),
    ("R101-FPN, fast path, 320 px, 50 proposals", "crack_r101.yaml", (*_AT_320, *_BOUNDED)),
    ("MobileNetV2-FPN256, Detectron2, 320 px", "crack_mobilenet_fpn256.yaml", (*_AT_320, *_OFF)),
    ("light MobileNetV2-FPN, Detectron2", "predict_mobilenet.yaml", _OFF),
    ("light MobileNetV2-FPN, fast path", "predict_mobilenet.yaml", ()),
)


def default_rows(device: str, precision: str, folder: str) -> list[Row]:
    """R101 as Detectron2 runs it, R101 fast, and the MobileNetV2 models.

    Args:
        device, precision: MODEL.DEVICE and CRACK.INFERENCE.PRECISION.
        folder: where stand-in weights are kept for models that have none.
    """
    return [
        _row(name, str(shipped(f"configs/{config}")), device, precision, overrides, folder)
        for name, config, overrides in _DEFAULTS
    ]


def rows_of(config_files: list[str], device: str, precision: str, folder: str) -> list[Row]:
    """Each config as it stands, by Detectron2's path and by the fast one; see `default_rows`."""
    stems = [Path(config).stem for config in config_files]
    names = stems if len(set(stems)) == len(stems) else config_files
    rows = [
        _row(f"{name}, {path}", config, device, precision, overrides, folder)
        for name, config in zip(names, config_files, strict=True)
        for path, overrides in (("Detectron2", _OFF), ("fast path", ()))
    ]
    ours = "CrackRCNN"  # other models are not compiled
    return [x for x in rows if x.path != "fast" or ours == x.cfg.MODEL.META_ARCHITECTURE]


def _row(
    name: str,
    config: str,
    device: str,
    precision: str,
    overrides: tuple[str, ...],
    folder: str,
) -> Row:
    cfg = load_config(config, ["MODEL.DEVICE", device, "CRACK.INFERENCE.PRECISION", precision])
    cfg.merge_from_list(list(overrides))
    weights = cfg.MODEL.WEIGHTS
    found = Path(weights) if Path(weights).is_file() else shipped(weights)
    if weights and found.is_file():
        cfg.MODEL.WEIGHTS = str(found)
        return Row(name, cfg, True)
    if weights and "://" not in weights:
        raise CrackError(f"checkpoint {weights} of {config} does not exist; correct MODEL.WEIGHTS")
    # Frozen statistics cannot be settled; both kinds of layer cost the same at prediction.
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.WEIGHTS = stand_in_weights(cfg, folder)
    return Row(name, cfg, False)
