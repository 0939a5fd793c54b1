"""The OpenAPI description is valid, and the server does what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

if TYPE_CHECKING:
    from schemathesis import Case


ROUTES = [("/predict", "POST"), ("/healthz", "GET"), ("/readyz", "GET"), ("/metrics", "GET")]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def description(url: str, png: bytes) -> schemathesis.BaseSchema:
    """The server's description, with real photos among the bodies made up from it."""
    schemathesis.openapi.media_type("image/*", st.one_of(st.just(png), st.binary(max_size=200)))
    return schemathesis.openapi.from_url(url + "/openapi.json")


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_answers_are_as_described(
    description: schemathesis.BaseSchema, path: str, method: str
) -> None:
    examples = 60 if method == "POST" else 10

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    @given(case=description[path][method].as_strategy())
    def check(case: Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    check()


def test_describes_every_route(url: str) -> None:
    document = requests.get(url + "/openapi.json", timeout=9).json()
    assert set(document["paths"]) == {path for path, _ in ROUTES}
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"multipart/form-data", "image/*"}
    assert set(predict["responses"]["200"]["content"]) == {
        "application/json",
        "image/jpeg",
        "image/png",
    }
    for status in ("400", "401", "406", "413", "415", "422", "500", "503", "504"):
        name = predict["responses"][status]["$ref"].rsplit("/", 1)[1]
        content = document["components"]["responses"][name]["content"]
        assert set(content) == {"application/problem+json"}
    # An API key may be given, and need not be.
    assert predict["security"] == [{}, {"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_the_json_answer_is_as_described(
    description: schemathesis.BaseSchema, url: str, png: bytes
) -> None:
    response = requests.post(
        url + "/predict?format=json&overlay=true", files={"image": png}, timeout=60
    )
    assert response.json()["instances"]
    description["/predict"]["POST"].validate_response(response)
