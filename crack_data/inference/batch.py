"""A prediction run over many photos, in this process or on a Ray cluster."""

import hashlib
import json
import posixpath
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from itertools import chain, count
from typing import Any

from detectron2.config import CfgNode
from tqdm import tqdm

from .. import storage
from ..calibration import settle_thresholds
from ..errors import CrackError, as_crack_error
from ..storage import RECORDS, SETTINGS, PhotoFile
from .labels_out import check_labels, write_labels
from .outputs import ENDINGS, OutputOptions, PhotoTask, predict_photo
from .predictor import CrackPredictor
from .results import Record, to_csv, to_document

_CSV = "predictions.csv"

Sizes = dict[str, int]  # of the files below the output folder, bytes, by relative path
Records = dict[str, Record]  # of photos, by path


def run_prediction(
    cfg: CfgNode,
    photos: list[PhotoFile],
    options: OutputOptions,
    resume: bool = False,
    ray_address: str | None = None,
    by_uncertainty: bool = False,
) -> int:
    """Predict photos and write everything about them; return how many could not be used.

    To ``resume`` is to keep what is complete in the output folder; ``by_uncertainty`` lists those
    first that the model is least sure of; ``ray_address`` is as `ray.init` takes it.
    """
    folder, settings = options.folder, run_settings(cfg, options)
    if options.labels:
        check_labels(folder)
    there, paths = storage.list_files(folder), {storage.printable(photo.path) for photo in photos}
    with as_crack_error(f"the records in {folder} are damaged; leave --resume out to start anew"):
        read = _read_records(folder, there, resume)
        known = _find_complete(photos, folder, there, read, settings) if resume else {}
    earlier = _find_earlier(there, read, known)
    others = {x["name"].lower(): path for path, x in earlier.items() if path not in paths}
    named = _name_outputs(photos, earlier | known)
    tasks = [task for task in named if storage.printable(task.photo.path) not in known]
    _refuse_to_overwrite(folder, there, tasks, others)
    started = time.perf_counter()
    predicted = _predict(cfg, tasks, options, ray_address)  # a bad model ends it here
    if not resume:
        for name in (storage.RESULTS, _CSV, RECORDS):
            storage.remove(posixpath.join(folder, name))
    # With what to remove at the end, also where another run gets there, or has those photos.
    content = json.dumps({**settings, "earlier": earlier}).encode()
    storage.write_bytes(posixpath.join(folder, SETTINGS), content)
    try:
        for record in _follow(predicted, len(tasks)):
            known[record["path"]] = record
        seconds = time.perf_counter() - started
        records = [known[storage.printable(photo.path)] for photo in photos]
        if by_uncertainty:
            records.sort(key=lambda record: -record.get("uncertainty", -1.0))
        _write_tables(records, settings, options)
        stale = {name for path in earlier.keys() & paths for name in earlier[path]["outputs"]}
        stale -= {name for x in records for name in x.get("outputs", ())}
        for name in stale:
            storage.remove(posixpath.join(folder, name))
    except CrackError as error:
        raise CrackError(f"{error} ({len(known)} photos are complete; --resume goes on)") from error
    bad = sum("error" in record for record in records)
    print(
        f"{len(tasks)} photos in {seconds:.1f} s ({len(tasks) / seconds:.2f} photos/s), "
        f"{len(photos) - len(tasks)} were complete, {bad} could not be used; results in {folder}"
        + (f" ({len(stale)} files of earlier runs were removed)" if stale else "")
        + (f"; {len(others)} photos of earlier runs are not in the tables" if others else "")
    )
    return bad


def run_settings(cfg: CfgNode, options: OutputOptions) -> dict[str, Any]:
    """What the results of a run depend on, as JSON has it."""
    model = cfg.clone()
    model.defrost()
    model.MODEL.WEIGHTS = model.OUTPUT_DIR = ""  # not where they lie, but what they are matters
    digest = hashlib.sha256(model.dump().encode()).hexdigest()
    calibration = settle_thresholds(model, cfg.MODEL.WEIGHTS)
    given = options._asdict()
    del given["folder"]
    return {
        "config": digest,
        "weights": storage.fingerprint(cfg.MODEL.WEIGHTS)["sha256"],
        "calibration": calibration and json.loads(calibration.to_json()),
        **given,
    }


def _read_records(folder: str, there: Sizes, resume: bool) -> dict[str, Any]:
    """The content of the records, by name below the folder; damaged ones only stop a ``resume``."""
    records = {}
    for name in (x for x in there if x.startswith(f"{RECORDS}/")):
        with nullcontext() if resume else suppress(Exception):
            records[name] = json.loads(storage.read_bytes(posixpath.join(folder, name)))
    return records


def _find_complete(
    photos: list[PhotoFile], folder: str, there: Sizes, records: dict[str, Any], settings: Record
) -> Records:
    """Records, by path, of the photos that are as they were and whose outputs are complete."""
    then = records.get(SETTINGS, settings)
    for key in settings:
        if then.get(key) != settings[key]:
            raise CrackError(
                f"output folder {folder} holds results made with another {key}; leave --resume "
                "out or name another folder"
            )
    known = {record["path"]: record for name, record in records.items() if name != SETTINGS}
    done = {}
    for photo in photos:
        record = known.get(storage.printable(photo.path))
        if record is not None and record["outputs"].items() <= there.items():
            with suppress(CrackError):  # a photo that cannot be read now is predicted anew
                if record["photo"] == storage.fingerprint(photo.path):
                    done[record["path"]] = {**record, "file_name": photo.file_name}
    return done


def _find_earlier(there: Sizes, records: dict[str, Any], known: Records) -> Records:
    """By path, {"name", "outputs"} of photos with files of earlier runs, of the size written."""
    earlier: Records = {}
    kept = {f"{RECORDS}/{record['name']}.json" for record in known.values()}
    for name in records.keys() - kept:
        with suppress(Exception):  # a damaged record lists nothing
            record = records[name]
            listed = record["earlier"] if name == SETTINGS else {record["path"]: record}
            for path, each in listed.items():
                if outputs := dict(each["outputs"].items() & there.items()):
                    before = earlier.setdefault(path, {"name": each["name"], "outputs": {}})
                    before["outputs"] |= outputs
    return earlier


def _refuse_to_overwrite(
    folder: str, there: Sizes, tasks: list[PhotoTask], others: dict[str, str]
) -> None:
    """Raise a `CrackError` where a file of no run would be overwritten, or of another photo."""
    taken = {task.name + ending for task in tasks for ending in ENDINGS}
    for name in sorted(there) if SETTINGS not in there else ():
        if name in taken or name.split("/")[0] in (storage.RESULTS, _CSV, RECORDS):
            raise CrackError(
                f"output folder {folder} holds {name}, which no earlier run has written; name "
                "another folder, so that it is not overwritten"
            )
    for task in tasks:
        if other := others.get(task.name.lower()):
            raise CrackError(
                f"photo {storage.printable(task.photo.path)} would overwrite {task.name}_*, results"
                f" of {other}, in output folder {folder}; name another folder, predict both photos "
                "in one run, or remove those results where that photo was moved or deleted"
            )


def _name_outputs(photos: list[PhotoFile], earlier: Records) -> Iterator[PhotoTask]:
    """Tasks for the photos, each with a name of its own for its outputs.

    That is the name in the ``earlier`` record, by path, or else the photo's without its ending,
    longer where that is taken; a photo in a subfolder has its outputs in such too.
    """
    names = [earlier.get(storage.printable(photo.path), {}).get("name", "") for photo in photos]
    taken = {posixpath.basename(SETTINGS).removesuffix(".json"), *map(str.lower, names)}
    for photo, name in zip(photos, names, strict=True):
        if not name:
            stem, suffix = posixpath.splitext(photo.file_name)
            # What is added must fit into the 255 bytes that file systems allow a name.
            stem = "/".join(x.encode()[:200].decode(errors="ignore") for x in stem.split("/"))
            longer = f"{stem}_{suffix[1:]}"
            choices = chain((stem, longer), (f"{longer}_{number}" for number in count(2)))
            name = next(x for x in choices if x.lower() not in taken)
            taken.add(name.lower())
        yield PhotoTask(photo, name)


def _predict(
    cfg: CfgNode, tasks: list[PhotoTask], options: OutputOptions, ray_address: str | None
) -> Iterator[Record]:
    if not tasks:
        return iter(())
    predictor = CrackPredictor(cfg)
    if ray_address is not None:  # whose workers each build their own, but too late to refuse it
        return _predict_by_ray(cfg, tasks, options, ray_address)
    return (predict_photo(predictor, task, options) for task in tasks)


class PhotoActor:
    """Lives in a process of its own, holds one model, and predicts photo after photo."""

    def __init__(self, cfg: CfgNode, options: OutputOptions) -> None:
        self.predictor, self.options = CrackPredictor(cfg), options

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """Predict the photo of a row, {"task": JSON}: {"record": JSON}."""
        photo, name = json.loads(row["task"])
        task = PhotoTask(PhotoFile(*photo), name)
        return {"record": json.dumps(predict_photo(self.predictor, task, self.options))}


def _predict_by_ray(
    cfg: CfgNode, tasks: list[PhotoTask], options: OutputOptions, address: str
) -> Iterator[Record]:
    """Predict photos on a Ray cluster, every machine of which reaches weights, photos and output.

    A worker that dies is replaced and its photos are predicted again; files are written whole, so
    that nothing is lost or doubled. Records come as they become ready. A `CrackError` says that
    Ray is not installed or there is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise CrackError("--engine ray needs the extra `ray`: pip install -e '.[ray]'") from error
    if not ray.is_initialized():
        with as_crack_error(f"no Ray cluster answers at {address}"):
            ray.init(address=address, log_to_driver=False)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = storage.full_path(cfg.MODEL.WEIGHTS)  # workers may have another folder
    processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    # Eight photos, which an actor takes at a time, and repeats when it dies among them.
    blocks = min(len(tasks), max(2 * processors, len(tasks) // 8))
    # As JSON: Arrow holds no path that is not UTF-8.
    rows = [{"task": json.dumps(task)} for task in tasks]
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


def _follow(records: Iterable[Record], total: int) -> Iterator[Record]:
    """Pass records on, with a bar on a terminal and, in a log too, a line for each photo."""
    for record in tqdm(records, total=total, unit="photo", disable=None):  # None: in a log
        yield record
        if "error" in record:
            tqdm.write(f"error: {record['error']}", file=sys.stderr)
        else:
            masked, cracks = record["percent_masked"], len(record["instances"])
            tqdm.write(f"{record['file_name']}: {masked:.2f} % masked, cracks: {cracks}")


def _write_tables(records: list[Record], settings: dict[str, Any], options: OutputOptions) -> None:
    """Write labels, the CSV, and last the JSON."""
    folder = options.folder
    if options.labels:
        write_labels(records, options.labels, folder)
    # Lone surrogates, of messages that hold odd paths, are not UTF-8.
    table = storage.printable(to_csv(records)).encode()
    storage.write_bytes(posixpath.join(folder, _CSV), table)
    document = json.dumps(to_document(records, settings), indent=1).encode()
    storage.write_bytes(posixpath.join(folder, storage.RESULTS), document)
