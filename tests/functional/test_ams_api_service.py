"""`/`, `/1.0`, config, certificates, operations and registry over the unix socket."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import requests

from support import pairs
from support.ams import Service, running, write_package


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


def metadata(response: requests.Response, status: int = 200) -> object:
    assert response.status_code == status, response.text
    return response.json()["metadata"]


def refused(response: requests.Response, status: int, *words: str) -> None:
    body = response.json()
    assert (response.status_code, body["type"], body["error_code"]) == (status, "error", status)
    for word in words:
        assert word in body["error"]


def test_what_the_service_is(service: Service) -> None:
    assert metadata(service.api("GET", "/")) == ["/1.0"]
    status = metadata(service.api("GET", "/1.0"))
    assert isinstance(status, dict)
    assert (status["auth"], status["api_version"], status["api_status"]) == (
        "trusted",
        "1.0",
        "stable",
    )
    assert status["auth_methods"] == ["2waySSL"]
    assert {"application_image_export", "vm_support", "registry"} <= set(status["api_extensions"])
    version = metadata(service.api("GET", "/1.0/version"))
    assert isinstance(version, dict)
    assert version["version"][0].isdigit()


def test_config(service: Service) -> None:
    changed = service.api("PATCH", "/1.0/config", json={"name": "registry.mode", "value": "push"})
    operation = metadata(changed, 202)
    assert isinstance(operation, dict)
    assert operation["status_code"] == 200
    config = metadata(service.api("GET", "/1.0/config"))
    assert isinstance(config, dict)
    assert config["config"]["registry.mode"] == "push"
    assert config["config"]["application.max_published_versions"] == 3
    before = service.state()
    for body, words in [
        ({"name": "registry.mode", "value": "both"}, "not a mode"),
        ({"name": "nonsense", "value": ""}, "not an option"),
        ({"name": "registry.mode"}, "value"),
        ({"name": "registry.mode", "value": 5}, "value"),
        ({"name": "registry.mode", "value": "pull", "more": 1}, "unknown key"),
    ]:
        refused(service.api("PATCH", "/1.0/config", json=body), 400, words)
    assert service.state() == before


def test_certificates(service: Service, tmp_path: Path) -> None:
    pair = pairs.make(tmp_path, "api", usage="client")
    fingerprint = str(pair.certificate.fingerprint)
    # As the public SDK sends it: base64 of DER.
    body = {"certificate": base64.b64encode(pair.certificate.der).decode()}
    added = service.api("POST", "/1.0/certificates", json=body)
    row = metadata(added)
    assert isinstance(row, dict)
    assert (row["fingerprint"], row["common_name"]) == (fingerprint, "api")
    assert datetime.fromisoformat(row["expires_at"]) == pair.certificate.expires
    assert metadata(service.api("GET", "/1.0/certificates?recursion=1")) == [row]
    urls = metadata(service.api("GET", "/1.0/certificates?recursion=0"))
    assert urls == [f"/1.0/certificates/{fingerprint}"]
    assert metadata(service.api("GET", f"/1.0/certificates/{fingerprint[:12]}")) == row
    refused(service.api("POST", "/1.0/certificates", json=body), 409, "already exists")
    # The SDK waits for an operation that deletes.
    deleted = metadata(service.api("DELETE", f"/1.0/certificates/{fingerprint}"), 202)
    assert isinstance(deleted, dict)
    assert deleted["status_code"] == 200
    refused(service.api("DELETE", f"/1.0/certificates/{fingerprint}"), 404)
    for wrong in ("", "nonsense!", base64.b64encode(b"nonsense").decode(), "-----BEGIN X-----"):
        refused(service.api("POST", "/1.0/certificates", json={"certificate": wrong}), 400)
    assert metadata(service.api("GET", "/1.0/certificates")) == []


def test_operations(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "package", "operated"))
    by_status = metadata(service.api("GET", "/1.0/operations?recursion=1"))
    assert isinstance(by_status, dict)
    operation = next(
        item for item in by_status["success"] if item["description"].startswith("Creating")
    )
    url = f"/1.0/operations/{operation['id']}"
    assert url in metadata(service.api("GET", "/1.0/operations"))  # type: ignore[operator]
    assert metadata(service.api("GET", url)) == operation
    assert operation["class"] == "task"
    for key in ("created_at", "updated_at"):
        assert datetime.fromisoformat(operation[key]).tzinfo is not None
    for timeout in ("", "?timeout=-1", "?timeout=5", "?timeout=1m30s"):
        assert metadata(service.api("GET", f"{url}/wait{timeout}")) == operation
    refused(service.api("GET", f"{url}/wait?timeout=soon"), 400, "30s, 5m")
    refused(service.api("DELETE", url), 409, "ended already")
    refused(service.api("GET", "/1.0/operations/nobody"), 404)
    refused(service.api("DELETE", "/1.0/operations/nobody"), 404)


def test_without_a_registry(service: Service) -> None:
    for name in ("registry.url", "registry.fingerprint"):
        service.ok("config", "set", name, "")
    status = metadata(service.api("GET", "/1.0/registry"))
    assert isinstance(status, dict)
    assert (status["url"], status["connected"]) == ("", False)
    assert metadata(service.api("GET", "/1.0/registry/applications")) == []
    assert service.ok("registry", "list", "--format", "json") == "[]\n"
    assert "mode:" in service.ok("registry", "status")
    for arguments in (("sync",), ("sync", "--dry-run"), ("pull", "x")):
        assert "amc config set registry.url" in service.fails("registry", *arguments)
    assert "no application" in service.fails("registry", "push", "nobody")
    assert "amc registry list" in service.fails("registry", "delete", "nobody")
    refused(service.api("POST", "/1.0/registry/sync", json={"dry_run": "x"}), 400, "dry_run")


def test_an_unreachable_registry_is_told_and_changes_nothing(
    service: Service, tmp_path: Path
) -> None:
    pair = pairs.make(tmp_path, "registry", usage="server")
    service.ok("config", "trust", "add", pair.cert_path)
    service.ok("config", "set", "registry.mode", "manual")
    service.ok("config", "set", "registry.fingerprint", str(pair.certificate.fingerprint))
    service.ok("config", "set", "registry.url", "https://127.0.0.1:1")
    before = service.state()
    assert "127.0.0.1:1" in service.fails("registry", "sync")
    assert service.state() == before
    service.ok("config", "set", "registry.url", "")
