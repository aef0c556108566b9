"""Operations over REST: waiting, cancelling, and what a killed service leaves."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import pairs
from support.ams import Service, running, until, write_package

INTERRUPTED = "interrupted by a restart of the service: start it again"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A registry that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def stalled(service: Service, silent: socket.socket, folder: Path) -> str:
    """Start a sync that hangs, and return the URL of its operation."""
    server = pairs.make(folder, "registry", usage="server")
    service.ok("config", "set", "registry.mode", "manual")
    service.ok("config", "trust", "add", server.cert_path)
    service.ok("config", "set", "registry.fingerprint", str(server.certificate.fingerprint))
    service.ok("config", "set", "registry.url", f"https://127.0.0.1:{silent.getsockname()[1]}")
    url = service.api("POST", "/1.0/registry/sync", json={}).json()["operation"]
    until(lambda: record(service, url)["status_code"] == 103)
    return url


def record(service: Service, url: str) -> Any:
    return service.api("GET", url).json()["metadata"]


def let_go(silent: socket.socket) -> None:
    silent.accept()[0].close()
    silent.close()


def test_waiting_ends_after_the_time_that_was_given(
    service: Service, silent: socket.socket, tmp_path: Path
) -> None:
    url = stalled(service, silent, tmp_path)
    for timeout in ("0", "1", "1s", "500ms"):
        begun = time.monotonic()
        waited = service.api("GET", f"{url}/wait?timeout={timeout}")
        assert (waited.status_code, waited.json()["metadata"]["status"]) == (200, "Running")
        assert time.monotonic() - begun < 30
    let_go(silent)
    assert record(service, f"{url}/wait?timeout=30")["status"] == "Failure"


def test_waiting_blocks_nobody_else(
    service: Service, silent: socket.socket, tmp_path: Path
) -> None:
    url = stalled(service, silent, tmp_path)
    ended: list[str] = []
    waiters = [
        threading.Thread(target=lambda: ended.append(record(service, f"{url}/wait")["status"]))
        for _ in range(20)
    ]
    for waiter in waiters:
        waiter.start()
    for _ in range(20):
        assert service.api("GET", "/1.0").status_code == 200
    assert ended == []
    let_go(silent)
    for waiter in waiters:
        waiter.join(30)
    assert ended == ["Failure"] * 20


def test_cancelling(service: Service, silent: socket.socket, tmp_path: Path) -> None:
    url = stalled(service, silent, tmp_path)
    cancelled = service.api("DELETE", url)
    assert (cancelled.status_code, cancelled.json()["metadata"]) == (200, {})
    assert record(service, url)["status"] == "Cancelling"
    assert [task["status"] for task in record(service, "/1.0/tasks")] == ["shutdown"]
    let_go(silent)
    ended = record(service, f"{url}/wait?timeout=30")
    assert (ended["status"], ended["status_code"]) == ("Cancelled", 401)
    assert service.api("DELETE", url).status_code == 409
    assert record(service, "/1.0/tasks") == []


def test_what_may_not_be_cancelled(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "package", "kept"))
    answer = service.api("PATCH", "/1.0/applications/kept/0", json={"published": False})
    operation = answer.json()["metadata"]
    assert operation["may_cancel"] is False
    assert service.api("DELETE", answer.json()["operation"]).status_code == 409


def test_a_killed_service_leaves_none_running(silent: socket.socket, tmp_path: Path) -> None:
    home = tmp_path / "ams"
    with running(home) as service:
        url = stalled(service, silent, tmp_path)
        assert url in service.api("GET", "/1.0/operations").json()["metadata"]
        kill(service)
    with running(home) as service:
        ended = record(service, url)
        assert (ended["status_code"], ended["err"]) == (400, INTERRUPTED)
        assert record(service, f"{url}/wait")["status"] == "Failure"
        assert service.logged("operations-interrupted", "count=1")
        assert record(service, "/1.0/tasks") == []
        states = record(service, "/1.0/operations?recursion=1")
        assert set(states) <= {"success", "failure"}


def kill(service: Service) -> None:
    """End the master and its worker at once."""
    master = service.process.pid
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for process in (master, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    service.process.wait()
