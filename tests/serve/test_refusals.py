"""Every bad request gets a problem document with the right status and a sentence."""

from __future__ import annotations

import io
import re
import socket
import struct
import zlib
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import requests
from PIL import Image
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import create_environ

from serve.uploads import MemoryRequest, read_upload

from .conftest import check_problem, running_server
from .stand_ins import predict_nothing

LIMIT = 300_000
RAW = {"Content-Type": "image/png"}


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def refused(url: str, status: int, *words: str, query: str = "", **request: Any) -> dict[str, Any]:
    """Post to /predict, and check that the answer is the problem document of this status."""
    response = requests.post(f"{url}/predict{query}", timeout=9, **request)
    return check_problem(response, status, *words)


def test_no_photo(stand_in_url: str, png: bytes) -> None:
    refused(stand_in_url, 400, "no photo")
    problem = refused(stand_in_url, 400, "field 'image'", files={"picture": ("wall.png", png)})
    assert problem["instance"] == "/predict"
    body = b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(stand_in_url, 400, "files came in a field without a name", data=body, headers=headers)
    latin = body.replace(b'filename="a"', b'name="image"; filename="\xfc"')
    for unread in (latin, body[:-8], b"--b--\r\n"):
        refused(stand_in_url, 400, "the form cannot be read", data=unread, headers=headers)


BAD_OPTIONS = [
    ("threshold=1.5", "threshold"),
    ("threshold=nan", "threshold"),
    ("threshold=high", "'high': give a number from 0 to 1"),
    ("threshold=0x1", "'0x1': give a number from 0 to 1"),
    ("image=hello", "the photo must be a file: -F image=@photo.jpg"),
    ("threshold=0_1", "threshold"),
    ("threshold=%D9%A1", "threshold"),
    ("treshold=0.3", "treshold"),
    ("format=gif", "format"),
    ("overlay=maybe", "overlay"),
    ("threshold=0.3&threshold=0.4", "given twice"),
]


@pytest.mark.parametrize("form", ["png", "jpeg", "mask"])
def test_an_overlay_without_json(stand_in_url: str, png: bytes, form: str) -> None:
    query = f"?overlay=true&format={form}"
    refused(stand_in_url, 400, "overlay is for JSON", form, query=query, data=png, headers=RAW)
    accept = RAW | {"Accept": "image/png"}
    refused(stand_in_url, 400, "format=json", query="?overlay=1", data=png, headers=accept)
    answer = requests.post(
        f"{stand_in_url}/predict?overlay=0&format={form}", data=png, headers=RAW, timeout=9
    )
    assert answer.ok


@pytest.mark.parametrize(("options", "word"), BAD_OPTIONS)
def test_bad_options(stand_in_url: str, png: bytes, options: str, word: str) -> None:
    in_query = {"query": f"?{options}", "data": png, "headers": RAW}
    refused(stand_in_url, 400, "query parameter", word, **in_query)
    in_form = {"data": parse_qsl(options), "files": {"image": png}}
    refused(stand_in_url, 400, "form field", word, **in_form)


def test_an_empty_threshold(stand_in_url: str, png: bytes) -> None:
    words = "threshold", "'': give a number from 0 to 1"
    refused(stand_in_url, 400, *words, query="?threshold=", data=png, headers=RAW)


def test_an_option_in_query_and_form(stand_in_url: str, png: bytes) -> None:
    form = {"data": {"threshold": "0.3"}, "files": {"image": png}}
    refused(stand_in_url, 400, "given twice", query="?threshold=0.3", **form)


@pytest.mark.parametrize("fields", [("image", "file"), ("image", "image"), ("image", "other")])
def test_more_than_one_file(stand_in_url: str, png: bytes, fields: tuple[str, str]) -> None:
    refused(stand_in_url, 400, "one photo", files=[(name, ("wall.png", png)) for name in fields])


def test_unacceptable_accept(stand_in_url: str, png: bytes) -> None:
    refused(stand_in_url, 406, "image/png", data=png, headers=RAW | {"Accept": "text/csv"})


@pytest.mark.parametrize("excess", [1, 70_000, 3_000_000])
def test_too_many_bytes(stand_in_url: str, excess: int) -> None:
    body = bytes(LIMIT + excess)
    for headers in (RAW, RAW | {"Expect": "100-continue"}):
        refused(stand_in_url, 413, "300000 bytes (--max-bytes)", data=body, headers=headers)
    refused(stand_in_url, 413, "300000", files={"image": ("wall.png", body)})


def test_too_many_bytes_in_chunks(stand_in_url: str) -> None:
    chunks = (bytes(10_000) for _ in range(40))
    refused(stand_in_url, 413, "300000", data=chunks, headers=RAW)


def test_another_server_passes_chunks_on(png: bytes) -> None:
    def read(data: bytes) -> bytes:
        whole = {"wsgi.input_terminated": True}  # as gunicorn says it
        body = {"input_stream": io.BytesIO(data), "headers": RAW, "environ_overrides": whole}
        environ = create_environ("/predict", method="POST", **body)
        del environ["CONTENT_LENGTH"]
        request = MemoryRequest(environ)
        request.max_content_length = len(png) + 1
        return read_upload(request)[1]

    assert read(png) == png
    with pytest.raises(RequestEntityTooLarge, match="--max-bytes"):
        read(png + b"not cut off")


@pytest.mark.parametrize("size", [(1000, 101), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_by_the_header(stand_in_url: str, size: tuple[int, int]) -> None:
    refused(stand_in_url, 413, "pixels", data=png_header(*size), headers=RAW)


def test_longer_than_any_picture_format_allows(stand_in_url: str) -> None:
    stream = io.BytesIO()
    Image.new("L", (66_000, 1)).save(stream, "PNG")
    refused(stand_in_url, 413, "66000 x 1 pixels", data=stream.getvalue(), headers=RAW)


def test_a_huge_text_field(png: bytes) -> None:
    with running_server(predict_nothing) as url:
        form = {"data": {"threshold": "0" * 600_000}, "files": {"image": png}}
        refused(url, 413, "texts", "500000 bytes", **form)


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"%PDF-1.7\n%", b"<svg xmlns='http://www.w3.org/2000/svg'/>", bytes(99)]
)
def test_not_a_photo(stand_in_url: str, body: bytes) -> None:
    refused(stand_in_url, 415, "not a photo", files={"image": ("wall.png", body)})


@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded"])
def test_not_a_photos_content_type(stand_in_url: str, png: bytes, media_type: str) -> None:
    refused(stand_in_url, 415, media_type, data=png, headers={"Content-Type": media_type})


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated(stand_in_url: str, photo: np.ndarray, format_name: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, format_name)
    half = stream.getvalue()[: len(stream.getvalue()) // 2]
    refused(stand_in_url, 422, "corrupt", data=half, headers=RAW)


def test_unknown_route_and_method(stand_in_url: str) -> None:
    check_problem(requests.get(stand_in_url + "/nothing", timeout=9), 404)
    response = requests.get(stand_in_url + "/predict", timeout=9)
    check_problem(response, 405, "by POST", f"curl -F image=@photo.jpg {stand_in_url}/predict")
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("POST /predict HTTP/1.1", "Host: a\r\nContent-Length: many", 400),
        ("POST /predict HTTP/1.1", "Host: a\r\nContent-Length: 2\r\nContent-Length: 3", 400),
        ("POST /predict HTTP/1.1", "Host: a\r\nTransfer-Encoding: xchunked", 400),
        ("GET /healthz HTTP/1.1", "Accept: */*", 400),  # no Host
        ("GET /healthz HTTP/1.1", "Host: a/b@c", 400),
        ("GET /healthz HTTP/1.1", "Host: a:\r\nConnection: close", 200),
        ("GET /healthz HTTP/1.1", "Host: a:b\r\nConnection: close", 200),
        ("GET /static/../../setup.cfg HTTP/1.1", "Host: a\r\nConnection: close", 404),
    ],
)
def test_odd_http_is_answered(
    stand_in_url: str, request_line: str, headers: str, status: int
) -> None:
    address = urlsplit(stand_in_url)
    with socket.create_connection((address.hostname, address.port), timeout=9) as connection:
        connection.sendall(f"{request_line}\r\n{headers}\r\n\r\n".encode())
        assert connection.makefile("rb").read().startswith(f"HTTP/1.1 {status} ".encode())


def test_the_server_goes_on_after_refusals(stand_in_url: str, png: bytes) -> None:
    response = requests.post(stand_in_url + "/predict", data=png, headers=RAW, timeout=60)
    assert response.status_code == 200


@pytest.mark.parametrize("key", ["correct horse", "a=b=c"])
def test_api_key(key: str, png: bytes) -> None:
    with running_server(predict_nothing, api_key=key) as url:

        def post(header: str | None) -> requests.Response:
            headers = {} if header is None else {"Authorization": header.encode()}
            return requests.post(url + "/predict", data=png, headers=RAW | headers, timeout=9)

        for header in (
            None,
            "Bearer wrong",
            "Bearer schlüssel",
            "Basic eDp5",
            f"Basic {key}",
            "Bearer",
        ):
            response = post(header)
            check_problem(response, 401, "Authorization: Bearer")
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert post(f"Bearer {key}").ok
        assert requests.get(url + "/healthz", timeout=9).ok


def test_every_answer_is_strict_with_browsers(stand_in_url: str) -> None:
    for path in ("/", "/healthz", "/nothing", "/static/page.js"):
        headers = requests.get(stand_in_url + path, timeout=9).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers
        assert headers["Date"].count("GMT") == 1
        assert "Access-Control-Allow-Origin" not in headers


def test_pages_of_one_other_origin_may_ask(png: bytes) -> None:
    origin = "https://inspect.example"
    with running_server(predict_nothing, cors_origin=origin) as url:
        asked = requests.options(url + "/predict", headers={"Origin": origin}, timeout=9)
        assert asked.status_code == 200
        assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
        answer = requests.post(url + "/predict", data=png, headers=RAW, timeout=9)
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "X-Crack-Percent-Masked" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("stripped", [True, False])
@pytest.mark.parametrize("given", ["setting", "header"])
def test_links_work_under_a_proxys_path(stripped: bool, given: str, png: bytes) -> None:
    headers = {"X-Forwarded-Prefix": "/cracks/"} if given == "header" else {}
    prefix = "/cracks" if given == "setting" else ""
    with running_server(predict_nothing, url_prefix=prefix) as url:

        def behind_proxy(path: str) -> str:
            return url + (path.removeprefix("/cracks") if stripped else path)

        page = requests.get(behind_proxy("/cracks/"), headers=headers, timeout=9).text
        links = re.findall(r'(?:href|src|data-predict)="([^"]+)"', page)
        assert len(links) == 4
        described = requests.get(behind_proxy("/cracks/openapi.json"), headers=headers, timeout=9)
        assert described.json()["servers"] == [{"url": "/cracks"}]
        for link in links:
            assert link.startswith("/cracks/")
            status = requests.get(behind_proxy(link), headers=headers, timeout=9).status_code
            assert status == (405 if link.endswith("/predict") else 200)


@pytest.mark.parametrize("prefix", ["//evil.example", "javascript:alert(1)", '/"><script>'])
def test_a_forged_prefix_changes_no_link(stand_in_url: str, prefix: str) -> None:
    page = requests.get(stand_in_url, headers={"X-Forwarded-Prefix": prefix}, timeout=9).text
    assert 'data-predict="/predict"' in page
