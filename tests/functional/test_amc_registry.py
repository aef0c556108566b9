"""`amc registry …` as processes, with a real registry: what people and programs are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aar_interface import Certificate, Role
from support import registry as registries
from support.ams import Service, running, write_package
from support.terminal import on_terminal


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[registries.RunningRegistry]:
    with registries.running(tmp_path / "aar") as server:
        yield server


@pytest.fixture
def service(tmp_path: Path, registry: registries.RunningRegistry) -> Iterator[Service]:
    """A publisher that is in touch with the registry, but only acts when told to."""
    with running(tmp_path / "ams") as started:
        own = Certificate.parse((started.home / "registry" / "client.crt").read_bytes())
        registry.trust(own, Role.PUBLISHER)
        certificate = tmp_path / "server.crt"
        certificate.write_text(registry.certificate.pem)
        started.ok("config", "trust", "add", certificate)
        started.ok("config", "set", "registry.url", f"https://127.0.0.1:{registry.port}")
        started.ok("config", "set", "registry.fingerprint", str(registry.certificate.fingerprint))
        started.ok("config", "set", "registry.mode", "manual")
        yield started


def test_what_was_done_in_lines_and_for_programs(service: Service, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        service.ok("application", "create", write_package(tmp_path / name, name, tags=["game"]))
    assert service.ok("registry", "list", "--format", "json") == "[]\n"
    # On no terminal: plain lines, and nothing on stderr.
    pushed = service.amc("registry", "push", "one")
    assert (pushed.code, pushed.err) == (0, "")
    assert "one 0-amd64" in pushed.out
    assert "bytes transferred" in pushed.out
    report = json.loads(service.ok("registry", "push", "two", "--format", "json"))
    assert report["failed"] == []
    assert report["dry_run"] is False
    assert any("two 0-amd64" in line for line in report["done"])
    assert report["bytes"] > 0
    again = yaml.safe_load(service.ok("registry", "push", "two", "--format", "yaml"))
    assert again["done"] == []
    assert service.ok("registry", "push", "two") == "Nothing to do\n"
    service.ok("registry", "sync", "--dry-run")
    rows = json.loads(service.ok("registry", "list", "--format", "json"))
    assert [row["name"] for row in rows] == ["one", "two"]
    csv = service.ok("registry", "ls", "--format", "csv").splitlines()
    assert csv[0] == "NAME,INSTANCE TYPE,TAGS,ARCHITECTURES,VERSIONS"
    assert csv[1].startswith("one,a4.3,game,amd64,0")
    status = json.loads(service.ok("registry", "status", "--format", "json"))
    assert status["mode"] == "manual"


def test_bars_on_a_terminal(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "shown", "shown"))
    code, shown = on_terminal(service.home, "registry", "push", "shown")
    assert code == 0
    assert "Pushing shown" in shown
    assert "shown 0-amd64" in shown


def test_deleting_asks_first(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "gone", "gone"))
    service.ok("registry", "push", "gone")
    service.ok("registry", "sync", "--dry-run")
    refused = service.amc("registry", "delete", "gone", stdin="n\n")
    assert refused.code == 1
    assert refused.out.startswith("The following application will be REMOVED:\n  - gone\n")
    service.ok("registry", "delete", "gone", "--yes")
    service.ok("registry", "sync", "--dry-run")
    assert "gone" not in service.ok("registry", "list")


def test_a_registry_that_is_gone_is_told(service: Service, tmp_path: Path) -> None:
    service.ok("application", "create", write_package(tmp_path / "lost", "lost"))
    service.ok("config", "set", "registry.url", "https://127.0.0.1:1")
    message = service.fails("registry", "push", "lost")
    assert "127.0.0.1:1" in message
