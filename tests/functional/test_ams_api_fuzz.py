"""Requests made up from the service's own description: no fault of ours, no undescribed answer.

schemathesis makes requests that fit `/1.0/swagger.json`, and others that don't. Whatever comes,
the answer is one that the description promises for that path, and never an internal error.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ams.client.transport import BASE_URL
from ams.web import swagger
from support.ams import Service, running, write_package

EXAMPLES = 16
"""Requests of each kind for each operation."""
LEAST = 500
"""So many requests there must be at least: that a generator gave up would go unseen."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

DOCUMENT = swagger.document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [
    (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
]
sent: Counter[int] = Counter()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture
def known(service: Service, tmp_path: Path) -> dict[str, str | int]:
    """Path parameters that name something which is there."""
    if service.api("GET", "/1.0/applications/fuzzed").status_code == 404:
        service.ok("application", "create", write_package(tmp_path / "package", "fuzzed"))
    versions = service.api("GET", "/1.0/applications/fuzzed").json()["metadata"]["versions"]
    (operation, *_) = service.api("GET", "/1.0/operations").json()["metadata"]
    return {
        "id_or_name": "fuzzed",
        "number": versions[-1]["number"],
        "operation_id": operation.rpartition("/")[2],
        "prefix": "00000000",
        "owner": "fuzz",
    }


@pytest.fixture(scope="module")
def session(service: Service) -> Iterator[requests.Session]:
    with service.session() as opened:
        yield opened


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_as_described(
    session: requests.Session,
    known: dict[str, str | int],
    method: str,
    path: str,
    mode: GenerationMode,
) -> None:
    operation = SCHEMA[path][method]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )
    @given(case=operation.as_strategy(generation_mode=mode), use_known=st.booleans())
    def check(case: Case, use_known: bool) -> None:
        if use_known:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = known[name]
        response = case.call(base_url=BASE_URL, session=session, timeout=60)
        sent[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    try:
        check()
    except Unsatisfiable:  # a path without parameters and body can't be asked wrongly
        assert mode is GenerationMode.NEGATIVE


def test_how_many_there_were(
    service: Service, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = [item for item in request.session.items if item.path == request.path]
    if len(mine) <= len(OPERATIONS):
        pytest.skip("needs the other tests of this file")
    by_status = ", ".join(f"{status}: {count}" for status, count in sorted(sent.items()))
    with capsys.disabled():
        print(f"\nrequests made up: {sent.total()} ({by_status})", file=sys.stderr)
    assert sent.total() >= LEAST
    assert not any(status >= 500 for status in sent)
    assert {200, 202, 400, 404} <= set(sent)
    assert not service.logged("request-failed")
