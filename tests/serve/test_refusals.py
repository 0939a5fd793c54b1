"""Every bad request gets a problem document with the right status and a sentence."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from PIL import Image

from benchmarks.server.server_process import ServerProcess

from .conftest import running_server

if TYPE_CHECKING:
    from crack_data.inference.predictor import CrackPredictor

LIMIT = 300_000
RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def url(predictor: CrackPredictor) -> Iterator[str]:
    """A server in this process that takes 300 kB and 100,000 pixels."""
    with running_server(predictor, max_bytes=LIMIT, max_pixels=100_000) as url:
        yield url


def check_problem(response: requests.Response, status: int, *words: str) -> dict[str, Any]:
    """The response is a problem document (RFC 9457) of this status, with these words."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    for word in words:
        assert word in problem["detail"]
    return problem


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def test_no_photo(url: str, png: bytes) -> None:
    check_problem(requests.post(url + "/predict", timeout=9), 400, "no photo")
    form = {"picture": ("wall.png", png)}
    problem = check_problem(
        requests.post(url + "/predict", files=form, timeout=9), 400, "field 'image'"
    )
    assert problem["instance"] == "/predict"
    text = requests.post(url + "/predict", data={"image": "wall.png"}, timeout=9)
    check_problem(text, 415, "application/x-www-form-urlencoded")


def test_empty_photo(url: str) -> None:
    form = {"image": ("wall.png", b"")}
    check_problem(requests.post(url + "/predict", files=form, timeout=9), 400, "empty")


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("threshold=1.5", "threshold"),
        ("threshold=nan", "threshold"),
        ("threshold=high", "threshold"),
        ("treshold=0.3", "treshold"),
        ("format=gif", "format"),
        ("overlay=maybe", "overlay"),
    ],
)
def test_bad_query(url: str, png: bytes, query: str, word: str) -> None:
    response = requests.post(f"{url}/predict?{query}", data=png, headers=RAW, timeout=9)
    check_problem(response, 400, "query parameter", word)


def test_unacceptable_accept(url: str, png: bytes) -> None:
    headers = RAW | {"Accept": "text/csv"}
    response = requests.post(url + "/predict", data=png, headers=headers, timeout=9)
    check_problem(response, 406, "image/png")


@pytest.mark.parametrize("excess", [1, 70_000, 3_000_000])
def test_too_many_bytes(url: str, excess: int) -> None:
    body = bytes(LIMIT + excess)
    for headers in (RAW, RAW | {"Expect": "100-continue"}):
        response = requests.post(url + "/predict", data=body, headers=headers, timeout=9)
        check_problem(response, 413, "300000")
    form = {"image": ("wall.png", body)}
    check_problem(requests.post(url + "/predict", files=form, timeout=9), 413, "300000")


def test_too_many_bytes_in_chunks(url: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(10_000)

    response = requests.post(url + "/predict", data=chunks(), headers=RAW, timeout=9)
    check_problem(response, 413, "300000")


@pytest.mark.parametrize("size", [(1000, 101), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_by_the_header(url: str, size: tuple[int, int]) -> None:
    response = requests.post(url + "/predict", data=png_header(*size), headers=RAW, timeout=9)
    check_problem(response, 413, "pixels")


def test_longer_than_any_picture_format_allows(url: str) -> None:
    stream = io.BytesIO()
    Image.new("L", (66_000, 1)).save(stream, "PNG")
    response = requests.post(url + "/predict", data=stream.getvalue(), headers=RAW, timeout=9)
    check_problem(response, 413, "66000 x 1 pixels")


def test_a_huge_text_field(url: str, png: bytes) -> None:
    form = {"note": "x" * 600_000}
    response = requests.post(url + "/predict", data=form, files={"image": png}, timeout=9)
    check_problem(response, 413)


@pytest.mark.parametrize(
    "body", [b"hello", b"%PDF-1.7\n%", b"<svg xmlns='http://www.w3.org/2000/svg'/>", bytes(5000)]
)
def test_not_a_photo(url: str, body: bytes) -> None:
    response = requests.post(url + "/predict", data=body, headers=RAW, timeout=9)
    check_problem(response, 415, "not a photo")


def test_not_a_photos_content_type(url: str, png: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = requests.post(url + "/predict", data=png, headers=headers, timeout=9)
    check_problem(response, 415, "application/json")
    headers = RAW | {"Content-Encoding": "gzip"}
    response = requests.post(url + "/predict", data=gzip.compress(png), headers=headers, timeout=9)
    check_problem(response, 415, "Content-Encoding")


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated(url: str, photo: np.ndarray, format_name: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, format_name)
    half = stream.getvalue()[: len(stream.getvalue()) // 2]
    response = requests.post(url + "/predict", data=half, headers=RAW, timeout=9)
    check_problem(response, 422, "corrupt")


def test_unknown_route_and_method(url: str) -> None:
    check_problem(requests.get(url + "/nothing", timeout=9), 404)
    response = requests.get(url + "/predict", timeout=9)
    check_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_malformed_http_is_a_problem_too(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=9) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: many\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ") or answer.startswith(b"HTTP/1.0 400 ")
    assert b"application/problem+json" in answer
    assert b'"detail": "the request is refused' in answer


def test_the_server_goes_on_after_refusals(url: str, png: bytes) -> None:
    response = requests.post(url + "/predict", data=png, headers=RAW, timeout=60)
    assert response.status_code == 200


def test_api_key(predictor: CrackPredictor, png: bytes) -> None:
    with running_server(predictor, api_key="correct horse") as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
            response = requests.post(url + "/predict", data=png, headers=RAW | headers, timeout=9)
            check_problem(response, 401, "Authorization: Bearer")
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        headers = RAW | {"Authorization": "Bearer correct horse"}
        assert requests.post(url + "/predict", data=png, headers=headers, timeout=60).ok
        assert requests.get(url + "/healthz", timeout=9).ok


def test_every_answer_is_strict_with_browsers(server: ServerProcess) -> None:
    for path in ("/", "/healthz", "/nothing", "/static/page.js"):
        headers = requests.get(server.url + path, timeout=9).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers
