"""What a prediction run writes for each photo: pictures, and a record that --resume reads."""

import json
import posixpath
import tempfile
from pathlib import Path
from typing import NamedTuple

from .. import storage
from ..errors import CrackError, as_crack_error
from ..photos import PhotoError, read_header, read_photo
from ..storage import PhotoFile
from .drawing import draw_prediction, encode_png
from .lines import find_place, find_scale, to_geojson
from .measuring import measure
from .mosaic import is_mosaic, predict_mosaic
from .predictor import CrackPredictor
from .results import OutputOptions, Record, to_json, uncertainty

# How the names of a photo's files may end.
ENDINGS = ("_overlay.png", "_mask.png", "_prob.png", "_mask.tif", "_lines.geojson")


class PhotoTask(NamedTuple):
    """A photo to predict, and what its output files begin with, a path below the output folder."""

    photo: PhotoFile
    name: str


def predict_photo(predictor: CrackPredictor, task: PhotoTask, options: OutputOptions) -> Record:
    """Predict one photo, write its files and, last, its record, and return that.

    It holds "name", "path", "file_name", what `to_json` gives, "uncertainty", "photo" (size and
    hash of the file) and "outputs" (sizes of the files written); of a photo that cannot be used
    "name", "path", "file_name" and "error". An output that cannot be written is a `CrackError`.
    """
    photo, path = task.photo, storage.printable(task.photo.path)
    record: Record = {"name": task.name, "path": path, "file_name": photo.file_name}
    with tempfile.TemporaryDirectory() as temporary:
        try:  # whatever is wrong with it, such as no memory for this one: the others go on
            with as_crack_error(f"photo {path} cannot be predicted"):
                if not (options.geojson and is_mosaic(photo.path)):
                    found, files = _predict_whole(predictor, photo, options)
                elif options.labels:
                    raise CrackError(f"raster {path} is too large for labels; leave --labels out")
                else:
                    mask = Path(temporary, "mask.tif")
                    found, lines = predict_mosaic(predictor, photo, options, mask)
                    files = {"_mask.tif": mask, "_lines.geojson": lines}
                record |= {**found, "photo": storage.fingerprint(photo.path), "outputs": {}}
        except CrackError as error:
            return {**record, "error": storage.printable(str(error))}
        for ending, content in files.items():
            storage.write_bytes(posixpath.join(options.folder, task.name + ending), content)
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            record["outputs"][task.name + ending] = size
    name = f"{storage.RECORDS}/{task.name}.json"
    storage.write_bytes(posixpath.join(options.folder, name), json.dumps(record).encode())
    return record


def _predict_whole(
    predictor: CrackPredictor, photo: PhotoFile, options: OutputOptions
) -> tuple[Record, dict[str, bytes | Path]]:
    try:
        image = read_photo(photo.path)
    except PhotoError as error:
        is_tiff = photo.path.lower().endswith((".tif", ".tiff"))
        if error.kind != "too_large" or options.geojson or not is_tiff:
            raise
        raise CrackError(f"{error}; --geojson reads GeoTIFFs over the limit too") from error
    place = find_place(photo.path, *image.shape[:2]) if options.geojson else None
    if place and read_header(photo.path)[2] != 1:  # its orientation
        raise CrackError(f"photo {photo.path} is on the map, but turned by EXIF; save it upright")
    prediction = predictor(image, options.threshold)
    measured = [measure(instance) for instance in prediction.instances]
    lines = [each.lines for each in measured]
    scales = [find_scale(branches, place, options.mm_per_px) for branches in lines]
    record = to_json(prediction, photo.file_name, measured, scales)
    record["uncertainty"] = uncertainty(prediction.levels)
    overlay = draw_prediction(image, prediction, options.boxes, options.scores)
    files: dict[str, bytes | Path] = {  # contents, or files to copy, by ending
        "_overlay.png": encode_png(overlay),
        "_mask.png": encode_png(prediction.mask),
        "_prob.png": encode_png(prediction.probability),
    }
    if options.geojson:
        files["_lines.geojson"] = to_geojson(lines, record, place)
    return record, files
