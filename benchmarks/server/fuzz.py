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
        memory_mb: resident memory of the server after a tenth of the bodies, after the last, and
            after that tenth once more.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory_mb: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def lines(self) -> list[str]:
        """The figures as text."""
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        early, late, again = self.memory_mb
        return [
            f"answers: {counts}",
            f"resident memory: {early:.0f} MB after a tenth, {late:.0f} MB after all, "
            f"{again:.0f} MB after the first tenth again ({self.growth_percent:+.1f} %)",
            f"failures: {len(self.failures)}",
            *self.failures[:20],
        ]

    @property
    def growth_percent(self) -> float:
        """Percent of memory that bodies took which the server had met before.

        New ones may need more than any before them, once; what known ones add is a leak.
        """
        _, late, again = self.memory_mb
        return 100 * (again / late - 1)


def fuzz(server: ServerProcess, count: int, first: int = 0) -> FuzzResult:
    """Send ``count`` bad bodies, numbered from ``first``, by a few clients, some twice."""
    result = FuzzResult()
    tenth = max(1, count // 10)
    known = range(first, first + tenth)
    early = _send_all(server, known, result)
    late = _send_all(server, range(first + tenth, first + count), result)
    repeated = FuzzResult()
    again = _send_all(server, known, repeated)
    result.failures += repeated.failures
    result.memory_mb = (early, late, again)
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
