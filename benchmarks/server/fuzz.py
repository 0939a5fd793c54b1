"""``python -m benchmarks.server.fuzz``: send bad bodies to a server of its own.

Exits with 1 if the server answers one with a 5xx, dies, or grows. The bodies are reproducible by
number.
"""

from __future__ import annotations

import argparse
import io
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import requests
from PIL import Image
from tqdm import tqdm

from crack_data.errors import run_tool

from .process import ServerProcess

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_SIZE = (40, 56)
_STARTS = (b"", b"%PDF-1.7\n", b"PK\x03\x04", b"<svg>", b"%!PS\n", b"\xff\xd8\xff", b"GIF89a")
_TYPES = ("image/png", "image/heic", "application/json", "text/plain", "image/svg+xml")
_CLIENTS = 4
_TIMEOUT_S = 120


@dataclass(frozen=True)
class BadBody:
    """A request to /predict.

    Attributes:
        kind: how it was made.
        data: the body.
        headers: to send with it.
        query: from the question mark on, or empty.
    """

    kind: str
    data: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "image/png"})
    query: str = ""


def bad_body(number: int) -> BadBody:
    """Make the body with this number; the kinds take turns.

    Some damage leaves a readable photo, or one that a lenient decoder repairs: those are answered
    like any other.
    """
    rng = np.random.default_rng(number)
    make = _KINDS[number % len(_KINDS)]
    return make(rng)


@lru_cache
def valid_photo(format_name: str, seed: int) -> bytes:
    """A small valid photo file; ``seed`` below 4 varies its content and mode."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*_SIZE, 3)).astype(np.uint8)
    pixels[:, :, :] //= 1 + 40 * (seed % 2)
    image = Image.fromarray(pixels)
    if seed >= 2:
        image = image.convert("L" if format_name == "JPEG" else "RGBA")
    stream = io.BytesIO()
    options = {"compression": "tiff_lzw"} if format_name == "TIFF" and seed % 2 else {}
    image.save(stream, format_name, **options)
    return stream.getvalue()


def _any_photo(rng: np.random.Generator) -> tuple[str, bytes]:
    format_name = str(rng.choice(FORMATS))
    return format_name, valid_photo(format_name, int(rng.integers(4)))


def _truncated(rng: np.random.Generator) -> BadBody:
    format_name, data = _any_photo(rng)
    return BadBody(f"truncated {format_name}", data[: int(rng.integers(1, len(data)))])


def _flipped(rng: np.random.Generator) -> BadBody:
    format_name, data = _any_photo(rng)
    damaged = bytearray(data)
    # Headers are short but decide most: every other body is damaged in its first bytes.
    reach = len(damaged) if rng.random() < 0.5 else min(len(damaged), 128)
    for _ in range(int(rng.integers(1, 17))):
        damaged[int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
    return BadBody(f"bit flips in {format_name}", bytes(damaged))


def _spliced(rng: np.random.Generator) -> BadBody:
    (first_name, first), (second_name, second) = _any_photo(rng), _any_photo(rng)
    cut = int(rng.integers(1, len(first)))
    start = int(rng.integers(len(second)))
    return BadBody(f"{first_name} into {second_name}", first[:cut] + second[start:])


def png(width: int, height: int, pixels: bytes, colour: int = 2) -> bytes:
    """A PNG file that declares a size, with whatever pixel bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, 8, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def _huge(rng: np.random.Generator) -> BadBody:
    """A declared size that would take up to exabytes."""
    width, height = (int(2 ** rng.uniform(13, 31)) for _ in range(2))
    if rng.random() < 0.5:
        return BadBody("huge PNG", png(width, height, zlib.compress(bytes(1000))))
    bmp = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 154, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6
    )
    return BadBody("huge BMP", bmp + bytes(100))


@lru_cache(maxsize=1)
def _zeros() -> bytes:
    return zlib.compress(bytes(200_000_000), 9)


def _bomb(rng: np.random.Generator) -> BadBody:
    """200 MB in 200 kB: more pixel bytes than declared, or a text chunk that swells."""
    if rng.random() < 0.5:
        return BadBody("bomb in pixels", png(64, 64, _zeros()))
    text = b"comment\0\0" + _zeros()
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    photo = valid_photo("PNG", 0)
    return BadBody("bomb in text", photo[:33] + chunk + photo[33:])


def _wrong_type(rng: np.random.Generator) -> BadBody:
    data = _STARTS[int(rng.integers(len(_STARTS)))] + rng.bytes(int(rng.integers(1, 3000)))
    return BadBody("wrong type", data, {"Content-Type": _TYPES[int(rng.integers(len(_TYPES)))]})


def _broken_form(rng: np.random.Generator) -> BadBody:
    photo = valid_photo("PNG", 0)
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + photo
    form = part + b"\r\n--b--\r\n"
    kind = int(rng.integers(4))
    if kind == 0:
        form = form[: int(rng.integers(1, len(form)))]
    if kind == 1:
        form = form.replace(b'"image"', b'"\xff\x00"')
    if kind == 2:
        form = rng.bytes(500)
    boundary = ("b", "", "c", "b" * 300)[kind]
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return BadBody("broken form", form, headers)


def _odd_request(rng: np.random.Generator) -> BadBody:
    queries = ("threshold=-1", "threshold=1e999", "format=exe", "overlay=2", "threshold=%00")
    query = "?" + str(rng.choice([*queries, "threshold=.1&threshold=.2"]))
    headers = {
        "Content-Type": "image/png",
        "Accept": str(rng.choice(["text/*", ";;", "image/gif"])),
    }
    if rng.random() < 0.3:
        headers["Content-Encoding"] = "gzip"
    return BadBody("odd request", valid_photo("PNG", 1), headers, query)


_KINDS: tuple[Callable[[np.random.Generator], BadBody], ...] = (
    _truncated,
    _flipped,
    _spliced,
    _flipped,
    _huge,
    _wrong_type,
    _truncated,
    _broken_form,
    _flipped,
    _odd_request,
    _bomb,
)


@dataclass
class FuzzResult:
    """What came back.

    Attributes:
        statuses: answers by HTTP status.
        failures: a sentence for each 5xx, lost or malformed answer.
        memory_mb: resident memory of the server after the last of the bodies, after the first tenth
            of them again, and after that tenth once more.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory_mb: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def lines(self) -> list[str]:
        """The figures as text."""
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        late, again, more = self.memory_mb
        return [
            f"answers: {counts}",
            f"resident memory: {late:.0f} MB after all, {again:.0f} MB after the first tenth "
            f"again, {more:.0f} MB after it once more ({self.growth_percent:+.1f} %)",
            f"failures: {len(self.failures)}",
            *self.failures[:20],
        ]

    @property
    def growth_percent(self) -> float:
        """Percent of memory that bodies took which the server had met twice before.

        Bodies may need more than any before them, alone or four at a time, and what they needed
        stays with the process; what the same add each time is a leak.
        """
        _, again, more = self.memory_mb
        return 100 * (more / again - 1)


def fuzz(server: ServerProcess, count: int, first: int = 0) -> FuzzResult:
    """Send ``count`` bad bodies, numbered from ``first``, by a few clients, a tenth thrice."""
    result, repeated = FuzzResult(), FuzzResult()
    known = range(first, first + max(1, count // 10))
    late = _send_all(server, range(first, first + count), result)
    again, more = (_send_all(server, known, repeated) for _ in range(2))
    result.failures += repeated.failures
    result.memory_mb = (late, again, more)
    return result


def _send_all(server: ServerProcess, numbers: Iterable[int], result: FuzzResult) -> float:
    with ThreadPoolExecutor(_CLIENTS) as pool:
        answers = pool.map(lambda number: _send(server.url, number), numbers)
        for status, failure in tqdm(answers, total=len(list(numbers)), disable=None):
            result.statuses[status] += 1
            if failure:
                result.failures.append(failure)
    return server.resident_mb()


def _send(url: str, number: int) -> tuple[int, str]:
    """Send one body; return the status (0: no answer) and what is wrong with the answer."""
    body = bad_body(number)
    try:
        response = requests.post(
            f"{url}/predict{body.query}", data=body.data, headers=body.headers, timeout=_TIMEOUT_S
        )
    except requests.RequestException as error:
        return 0, f"body {number} ({body.kind}): {error}"
    status = response.status_code
    problem = response.headers["Content-Type"] == "application/problem+json"
    if status >= 500 or (status >= 400) != problem:
        return status, f"body {number} ({body.kind}): {status} {response.text[:200]}"
    return status, ""


def main() -> int:
    """Run it and print the figures; flags that are not listed go to the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="number of bodies")
    parser.add_argument("--first", type=int, default=0, help="number of the first body")
    parser.add_argument("--growth", type=float, default=1, help="percent that known bodies may add")
    arguments, server_flags = parser.parse_known_args()
    # How long a photo waits is another trial's business.
    with ServerProcess(["--deadline-s", "600", *server_flags]) as server:
        server.wait_ready()
        result = fuzz(server, arguments.count, arguments.first)
        print("\n".join(result.lines()))
        grown = result.growth_percent > arguments.growth
        return 1 if result.failures or grown or server.stop() else 0


if __name__ == "__main__":
    run_tool(main)
