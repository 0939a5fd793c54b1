"""The same prediction on a Ray cluster: Ray Data spreads the photos over one model per actor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode

from ..errors import CrackError
from ..storage import PhotoFile
from .mosaic import predict_any
from .outputs import OutputOptions, PhotoTask
from .predictor import CrackPredictor

# Photos that an actor takes at a time, and repeats when it dies among them.
_PHOTOS_PER_BLOCK = 8


class PhotoActor:
    """Lives in a process of its own, holds one model, and predicts photo after photo."""

    def __init__(self, cfg: CfgNode, options: OutputOptions) -> None:
        self.predictor = CrackPredictor(cfg)
        self.options = options

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Predict the photo of a row, {"task": JSON of path, file name and output name}.

        Returns:
            {"record": JSON of `predict_any`'s record}.
        """
        path, file_name, name = json.loads(row["task"])
        task = PhotoTask(PhotoFile(path, file_name), name)
        record = predict_any(self.predictor, task, self.options)
        return {"record": json.dumps(record)}


def predict_fleet(
    cfg: CfgNode, tasks: list[PhotoTask], options: OutputOptions, address: str
) -> Iterator[dict[str, Any]]:
    """Predict photos on a Ray cluster.

    A worker that dies is replaced and its photos are predicted again; files are written whole, so
    that nothing is lost or doubled.

    Args:
        cfg: the model; MODEL.WEIGHTS, the photos and the output folder are paths or URLs that
            every machine of the cluster reaches.
        tasks: the photos.
        options: what to write and where.
        address: as `ray.init` takes it; "local" starts a cluster on this machine, unless this
            process is connected to one.

    Returns:
        the records, as they become ready.

    Raises:
        CrackError: Ray is not installed or there is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise CrackError("--engine ray needs the extra `ray`: pip install '.[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except ConnectionError as error:
            raise CrackError(f"no Ray cluster answers at {address}: {error}") from error
    processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    blocks = min(len(tasks), max(2 * processors, math.ceil(len(tasks) / _PHOTOS_PER_BLOCK)))
    # As JSON: Arrow holds no path that is not UTF-8.
    fields = [[task.photo.path, task.photo.file_name, task.name] for task in tasks]
    rows = [{"task": json.dumps(each)} for each in fields]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    data = ray.data.from_items(rows, override_num_blocks=blocks).map(
        PhotoActor,  # type: ignore[arg-type]  # Ray's hint leaves classes out
        fn_constructor_args=(cfg, options),
        compute=ray.data.ActorPoolStrategy(size=min(processors, blocks)),
        num_cpus=1,
    )
    return (json.loads(row["record"]) for row in data.iter_rows())
