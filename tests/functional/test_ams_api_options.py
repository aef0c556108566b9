"""What the options do, seen over the API: publishing, how many stay published, the password."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from support.ams import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


def ended(service: Service, response: requests.Response) -> dict[str, Any]:
    """Wait for the operation of an answer to succeed."""
    assert response.status_code == 202, response.text
    waited = service.api("GET", f"{response.json()['operation']}/wait?timeout=30")
    operation = waited.json()["metadata"]
    assert operation["status_code"] == 200, operation
    return operation


def configure(service: Service, name: str, value: str) -> None:
    ended(service, service.api("PATCH", "/1.0/config", json={"name": name, "value": value}))


def upload(service: Service, method: str, path: str, content: bytes) -> None:
    """Send a package of the application `candy` with this content."""
    manifest = yaml.safe_dump({"name": "candy", "version": "1.0", "instance-type": "a4.3"})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in [("manifest.yaml", manifest.encode()), ("app.apk", content)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    body = buffer.getvalue()
    headers = {
        "Content-Type": "application/octet-stream",
        "X-AMS-Fingerprint": hashlib.sha256(body).hexdigest(),
    }
    ended(service, service.api(method, path, data=body, headers=headers))


def published(service: Service) -> list[int]:
    """Return the numbers of the versions of `candy` that are published."""
    application = service.api("GET", "/1.0/applications/candy").json()["metadata"]
    return [version["number"] for version in application["versions"] if version["published"]]


def test_publishing_by_itself_and_how_many_stay(service: Service) -> None:
    upload(service, "POST", "/1.0/applications", b"zero")
    assert published(service) == [0]

    configure(service, "application.auto_publish", "false")
    upload(service, "PATCH", "/1.0/applications/candy", b"one")
    assert published(service) == [0]
    ended(service, service.api("PATCH", "/1.0/applications/candy/1", json={"published": True}))
    assert published(service) == [0, 1]

    configure(service, "application.auto_publish", "true")
    configure(service, "application.max_published_versions", "2")
    assert published(service) == [0, 1]
    upload(service, "PATCH", "/1.0/applications/candy", b"two")
    assert published(service) == [1, 2]
    # An old one that is published by hand stays; the oldest of the others goes.
    ended(service, service.api("PATCH", "/1.0/applications/candy/0", json={"published": True}))
    assert len(published(service)) == 2
    assert 0 in published(service)


def test_managed_options_act_like_those_set_by_hand(service: Service) -> None:
    wanted = {"config": {"application.auto_publish": False}}
    assert service.api("PUT", "/1.0/config/managed/juju", json=wanted).ok
    before = published(service)
    upload(service, "PATCH", "/1.0/applications/candy", b"three")
    assert published(service) == before
    assert service.api("PUT", "/1.0/config/managed/juju", json={"config": {}}).ok
    upload(service, "PATCH", "/1.0/applications/candy", b"four")
    assert 4 in published(service)


def test_the_trust_password_is_only_ever_written(service: Service) -> None:
    """That it lets a client in is tested where the certificates are."""
    configure(service, "core.trust_password", "correct horse")
    managed = {"config": {"core.trust_password": "battery staple"}}
    assert service.api("PUT", "/1.0/config/managed/juju", json=managed).ok
    for path in ("/1.0/config", "/1.0/config/managed/juju", "/1.0/config/origins"):
        text = service.api("GET", path).text
        assert "horse" not in text
        assert "staple" not in text
        assert "scrypt" not in text
    shown = service.api("GET", "/1.0/config").json()["metadata"]["config"]
    assert shown["core.trust_password"] is True
    operations = service.api("GET", "/1.0/operations?recursion=1").text
    assert "horse" not in operations
    assert not service.logged("horse")
    assert not service.logged("staple")
    for path in Path(service.home, "data").rglob("*"):
        if path.is_file():
            assert b"battery staple" not in path.read_bytes()
            assert b"correct horse" not in path.read_bytes()
    assert service.api("PUT", "/1.0/config/managed/juju", json={"config": {}}).ok
    configure(service, "core.trust_password", "")
