"""What the reference's API has and this one doesn't: said in its words, in the envelope."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import gotypes
from support.ams import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/1.0/instances", "instances not supported"),
        ("GET", "/1.0/containers", "containers not supported"),
        ("POST", "/1.0/containers", "containers not supported"),
        ("DELETE", "/1.0/containers/x", "container 'x' not found"),
        ("GET", "/1.0/instances/x/logs/android.log", "instance 'x' not found"),
        ("GET", "/1.0/nodes", "nodes not supported"),
        ("PATCH", "/1.0/nodes/lxd0", "node 'lxd0' not found"),
        ("GET", "/1.0/images/default", "image 'default' not found"),
        ("POST", "/1.0/addons", "addons not supported"),
        ("GET", "/1.0/auth/oidc", "authorization 'oidc' not found"),
        ("GET", "/1.0/nonsense", "no such endpoint"),
    ],
)
def test_what_the_reference_has_and_this_has_not(
    service: Service, method: str, path: str, message: str
) -> None:
    answer = service.api(method, path)
    envelope = gotypes.RESPONSE(answer.json(), path)
    assert (answer.status_code, envelope["type"], envelope["error_code"]) == (404, "error", 404)
    assert message in envelope["error"]
