"""Metrics for Prometheus, and logs in JSON."""

from __future__ import annotations

import numpy as np
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from benchmarks.server.process import ServerProcess

from .conftest import ONE_THREAD


def _metrics(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = requests.get(url + "/metrics", timeout=9).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_stages_and_sizes(stand_in_url: str, png: bytes) -> None:
    before = _metrics(stand_in_url)
    requests.post(stand_in_url + "/predict", files={"image": png}, timeout=60)
    requests.post(stand_in_url + "/predict", files={"image": b"junk"}, timeout=60)
    requests.get(stand_in_url + "/made/up", timeout=9)
    for method in ("BREW", "WHEN"):
        requests.request(method, stand_in_url + "/healthz", timeout=9)
    after = _metrics(stand_in_url)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    good = {"method": "POST", "route": "/predict", "status": "200"}
    assert grown("crack_requests_total", **good) == 1
    assert grown("crack_requests_total", **(good | {"status": "415"})) == 1
    missed = {"method": "GET", "route": "(none)", "status": "404"}
    assert grown("crack_requests_total", **missed) == 1
    invented = {"method": "other", "route": "(none)", "status": "405"}
    assert grown("crack_requests_total", **invented) == 2
    for stage in ("decode", "queue", "predict", "encode"):
        assert grown("crack_stage_seconds_count", stage=stage) == 1
    assert grown("crack_photo_megapixels_sum") == pytest.approx(96 * 128 / 1e6)
    assert after["crack_queue_depth", ()] == 0
    assert after["process_resident_memory_bytes", ()] > 1e7


def _geotiff(kind: str, nodata: float) -> bytes:
    """A raster on the map, with the tags that GDAL adds."""
    place = {"crs": "EPSG:25832", "transform": from_origin(600000, 5500000, 0.02, 0.02)}
    with MemoryFile() as file:
        with file.open(
            driver="GTiff", width=60, height=40, count=1, dtype=kind, nodata=nodata, **place
        ) as raster:
            raster.write(np.arange(2400).reshape(40, 60).astype(kind), 1)
        return bytes(file.getbuffer())


def test_every_request_is_logged_under_its_id(png: bytes) -> None:
    """And nothing else is written, though decoders know not all tags of a GeoTIFF."""
    with ServerProcess([], ONE_THREAD, "tests.serve.stand_ins") as server:
        server.wait_ready()
        named = requests.post(
            server.url + "/predict",
            files={"image": png},
            headers={"X-Request-ID": "inspection-7"},
            timeout=60,
        )
        assert named.headers["X-Request-ID"] == "inspection-7"
        for raster in (_geotiff("uint16", 0), _geotiff("float32", -3.4028234663852886e38)):
            answer = requests.post(server.url + "/predict", files={"image": raster}, timeout=60)
            assert answer.status_code == 200
        hostile = requests.get(server.url + "/no", headers={"X-Request-ID": 'a"b {}'}, timeout=9)
        given = hostile.headers["X-Request-ID"]
        assert given != 'a"b {}'
        assert hostile.json()["request_id"] == given
        server.stop()
    assert server.other_lines == []
    assert {r["level"] for r in server.log} == {"INFO"}
    records = {r["request_id"]: r for r in server.log if r["logger"] == "serve.access"}
    good, bad = records["inspection-7"], records[given]
    assert good["message"] == "POST /predict 200"
    assert good["bytes_in"] > len(png)
    assert good["bytes_out"] == len(named.content)
    assert good["ms"] > 0
    assert good["level"] == "INFO"
    assert bad["status"] == 404
