"""Send bad bodies to a server and see that it stays calm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests
from tqdm import tqdm

from .bad_bodies import bad_body
from .server_process import ServerProcess

_CLIENTS = 4
_TIMEOUT_S = 120


@dataclass
class FuzzResult:
    """What came back.

    Attributes:
        statuses: answers by HTTP status.
        failures: a sentence for each 5xx, lost or malformed answer.
        memory_mb: resident memory of the server after a tenth of the bodies, and after the last.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory_mb: tuple[float, float] = (0.0, 0.0)

    def lines(self) -> list[str]:
        """The figures as text."""
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        early, late = self.memory_mb
        return [
            f"answers: {counts}",
            f"resident memory: {early:.0f} MB after a tenth, {late:.0f} MB at the end "
            f"({100 * (late / early - 1):+.1f} %)",
            f"failures: {len(self.failures)}",
            *self.failures[:20],
        ]


def fuzz(server: ServerProcess, count: int, first: int = 0) -> FuzzResult:
    """Send ``count`` bad bodies, numbered from ``first``, by a few clients at once."""
    result = FuzzResult()
    tenth = max(1, count // 10)
    early = _send_all(server, range(first, first + tenth), result)
    late = _send_all(server, range(first + tenth, first + count), result)
    result.memory_mb = (early, late)
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
