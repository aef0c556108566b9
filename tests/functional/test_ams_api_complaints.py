"""What people complained about in the reference's API, and what this one does instead."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ams.client.transport import BASE_URL
from support.ams import Service, running, until, write_package

OCTETS = {"Content-Type": "application/octet-stream"}
BIG = 128 * 1024 * 1024
FLAT = 48 * 1024 * 1024
"""What a worker may grow by, however large the version: buffers and compression, no content."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


def test_an_empty_list_is_a_list(service: Service) -> None:
    for path in (
        "applications?recursion=1",
        "applications?recursion=0",
        "certificates",
        "certificates?recursion=0",
        "operations",
        "registry/applications",
        "tasks",
    ):
        assert service.api("GET", f"/1.0/{path}").json()["metadata"] == [], path
    assert service.api("GET", "/1.0/operations?recursion=1").json()["metadata"] == {}


def test_booleans_and_numbers_are_no_texts(service: Service) -> None:
    config = service.api("GET", "/1.0/config").json()["metadata"]["config"]
    assert config["application.auto_publish"] is True
    assert config["core.trust_password"] is False
    assert config["application.max_published_versions"] == 3


def test_what_failed_leaves_nothing_to_delete(service: Service, tmp_path: Path) -> None:
    """Where a bootstrap had failed, an application stayed that couldn't be deleted."""
    folder = write_package(tmp_path / "package", "broken", hooks={"timeout": "1h"})
    assert "hooks.timeout" in service.fails("application", "create", folder)
    assert service.api("GET", "/1.0/applications").json()["metadata"] == []
    write_package(folder, "broken")
    service.ok("application", "create", folder)
    service.ok("application", "delete", "broken", "--yes")


def test_no_version_is_ever_stuck(tmp_path: Path) -> None:
    """Versions stayed `initializing` for good when the service went down meanwhile."""
    home = tmp_path / "ams"
    folder = write_package(tmp_path / "package", "stuck")
    with running(home) as service:
        service.ok("application", "create", folder)
        (folder / "app.apk").write_bytes(os.urandom(1000))

        def endless() -> Iterator[bytes]:
            yield bytes(100_000)
            until(lambda: service.open_uploads() == 1)
            kill(service)
            yield b""

        with service.session() as session, pytest.raises(requests.RequestException):
            session.patch(
                f"{BASE_URL}/1.0/applications/stuck", data=endless(), headers=OCTETS, timeout=30
            )
    with running(home) as service:
        (item,) = service.api("GET", "/1.0/applications?recursion=1").json()["metadata"]
        assert (item["status"], [v["status"] for v in item["versions"]]) == ("ready", ["active"])
        service.ok("application", "update", "stuck", folder)
        service.ok("application", "delete", "stuck", "--yes")


def test_memory_stays_flat_while_a_large_version_comes_and_goes(
    service: Service, tmp_path: Path
) -> None:
    folder = write_package(tmp_path / "package", "large")
    (folder / "extra-data").mkdir()
    with (folder / "extra-data" / "asset").open("wb") as asset:
        asset.truncate(BIG)
    manifest = folder / "manifest.yaml"
    manifest.write_text(manifest.read_text() + "extra-data: {asset: {target: /data/asset}}\n")
    worker = Worker(service)
    service.ok("application", "create", folder)
    assert worker.grown() < FLAT
    size = 0
    with (
        service.session() as session,
        session.get(f"{BASE_URL}/1.0/applications/large/0", stream=True, timeout=120) as answer,
    ):
        for chunk in answer.iter_content(65536):
            size += len(chunk)
        assert size == int(answer.headers["Content-Length"])
    assert worker.grown() < FLAT


class Worker:
    """The process that serves, and how much more memory it has had since."""

    def __init__(self, service: Service) -> None:
        master = service.process.pid
        (child,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        self._process = Path(f"/proc/{child}")
        (self._process / "clear_refs").write_text("5")  # the high-water mark begins here
        self._before = self._value("VmRSS")

    def grown(self) -> int:
        """Return the bytes between the memory at the beginning and the most ever since."""
        return self._value("VmHWM") - self._before

    def _value(self, name: str) -> int:
        for line in (self._process / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise LookupError(name)


def kill(service: Service) -> None:
    """End the master and its worker at once."""
    master = service.process.pid
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for process in (master, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    service.process.wait()
