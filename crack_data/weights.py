"""Read checkpoints and put them into models: tensors only, whole, finite, and fitting."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

from .config import leaves
from .errors import CrackError, as_crack_error

# Stored by old checkpoints only, and computed from the config.
_OBSOLETE = ("anchor_generator.cell_anchors", "num_batches_tracked")
# How torch.save began before it wrote zip archives.
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint, running nothing that it holds: a dictionary with weights under "model".

    Beside them is what training needs to resume. ``path`` is a ``.pth`` file, a ``.pkl`` of
    Detectron2's model zoo, or a URL that PathManager downloads. A `CrackError` where it is missing,
    damaged, holds more than tensors and plain values, or values that are not finite.
    """
    what = f"checkpoint {path}"
    missing = f"{what} does not exist, or cannot be fetched or read"
    with as_crack_error(missing), PathManager.open(path, "rb") as file:
        data = file.read()
    with as_crack_error(f"{what} is damaged, or none"):
        try:
            content = _unpack(data)
        except pickle.UnpicklingError:  # PyTorch's own words are how to run what it holds
            raise CrackError(f"{what} holds more than tensors, or is no checkpoint") from None
        for key, value in leaves(content):
            if isinstance(value, torch.Tensor) and not torch.isfinite(value).all():
                raise ValueError(f"values in {key} are not finite; take an earlier one")
    state = content["model"]
    named = all(isinstance(x, str) and isinstance(y, torch.Tensor) for x, y in state.items())
    if not state or not named:
        raise CrackError(f"{what} holds no model weights; name a file that training wrote")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): x for name, x in state.items()}
    return {**content, "model": dict(state)}


def averaged_weights(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The averaged weights that a training's checkpoint has beside the raw ones, or the only ones.

    They are those that the training evaluates and releases.
    """
    average = content.get("ema")
    if not (isinstance(average, Mapping) and average.get("n_averaged", 0)):
        return content["model"]
    return {k.removeprefix("module."): x for k, x in average.items() if k.startswith("module.")}


def load_weights(model: nn.Module, path: str, raw: bool = False) -> dict[str, Any]:
    """Load a checkpoint of this very model and return all of it; a `CrackError` if of another.

    ``raw`` loads what a training goes on with, and not its `averaged_weights`.
    """
    content = read_checkpoint(path)
    found, wanted = content["model"] if raw else averaged_weights(content), model.state_dict()
    # The config sets the pixels' statistics: files may lack them, as Detectron2's loading allows.
    missing = [x for x in wanted if x not in found and x not in ("pixel_mean", "pixel_std")]
    unexpected = [x for x in found if x not in wanted and not any(y in x for y in _OBSOLETE)]
    misfits = [x for x in wanted if x in found and found[x].shape != wanted[x].shape]
    if missing or unexpected or misfits:
        raise CrackError(
            f"checkpoint {path} is of another model: of {len(wanted)} weights it lacks "
            f"{len(missing)}, {len(misfits)} have another shape, and {len(unexpected)} are unknown "
            f"({[*missing, *misfits, *unexpected][0]}, …); use the config that it was trained with"
        )
    model.load_state_dict(found, strict=False)
    return content


def load_initial_weights(cfg: CfgNode, model: nn.Module) -> None:
    """Load MODEL.WEIGHTS, but for other heads, or MODEL.BACKBONE.WEIGHTS; else a `CrackError`."""
    path, network = cfg.MODEL.WEIGHTS, bottom_up(model)
    if not path and cfg.MODEL.BACKBONE.WEIGHTS:
        load_backbone_weights(network, cfg.MODEL.BACKBONE.WEIGHTS)
    if not path:
        return
    before = {name: x.clone() for name, x in network.state_dict().items() if x.dim() == 4}
    content = read_checkpoint(path)
    DetectionCheckpointer(model)._load_model(content | {"model": averaged_weights(content)})
    after = network.state_dict()
    loaded = sum(not torch.equal(before[name], after[name]) for name in before)
    # Heads, those of a detector of something else, may be missing or have other classes.
    if loaded < 0.9 * len(before):
        raise CrackError(
            f"MODEL.WEIGHTS {path} is of another architecture: it holds {loaded} of the "
            f"{len(before)} convolutions of the backbone; name a file that goes with the config"
        )


def load_backbone_weights(network: nn.Module, path: str) -> None:
    """Load ImageNet weights into the network below the FPN; a `CrackError` where one misfits."""
    stored, wanted = read_checkpoint(path)["model"], network.state_dict()
    # BatchNorm's step counter is bookkeeping, and FrozenBN has none. The file has a classifier too.
    names = [name for name in wanted if not name.endswith("num_batches_tracked")]
    unfit = [x for x in names if x not in stored or stored[x].shape != wanted[x].shape]
    if unfit:
        raise CrackError(
            f"backbone weights {path} do not fit MODEL.BACKBONE.NAME: {len(unfit)} of "
            f"{len(names)} tensors are missing or differ in shape, first {unfit[0]}"
        )
    network.load_state_dict({name: stored[name] for name in names}, strict=False)


def bottom_up(model: Any) -> nn.Module:
    """The network below the FPN, or the whole backbone where there is no FPN."""
    return getattr(model.backbone, "bottom_up", model.backbone)


def _unpack(data: bytes) -> dict[str, Any]:
    """The content of a checkpoint's bytes, with the weights under "model"."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
    elif _TORCH_MAGIC not in data[:32]:
        return _unpack_zoo(_ArrayUnpickler(io.BytesIO(data), encoding="latin1").load())
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if isinstance(content.get("model"), Mapping):
        return dict(content)
    inner = content.get("state_dict")
    return {"model": inner if isinstance(inner, Mapping) else content}


def _unpack_zoo(content: Any) -> dict[str, Any]:
    """A pickle of Detectron2's or Caffe2's model zoo, as `DetectionCheckpointer` takes it."""
    if "__author__" not in content or not isinstance(content.get("model"), Mapping):
        blobs = content.get("blobs", content)
        weights = {key: x for key, x in blobs.items() if not str(key).endswith("_momentum")}
        content = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    tensors = {
        key: torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x
        for key, x in content["model"].items()
    }
    return {**content, "model": tensors}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays, dictionaries, lists, strings and numbers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # as numpy 1 called it
        if name not in _ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        if name == "encode":  # bytes in protocol 2; no other codec runs
            return lambda text, _: text.encode("latin1")
        return super().find_class(module, name)


_ALLOWED = {
    "collections": ("OrderedDict",),
    "_codecs": ("encode",),
    "numpy": ("ndarray", "dtype"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.numeric": ("_frombuffer",),
}
