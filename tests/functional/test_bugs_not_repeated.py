"""Failures that the reference's release notes tell of, each as a test.

docs/explanation/reliability.md has them all in a table; most tests stand where they belong, and
what is held here is that the table names tests that exist, and those that stood nowhere.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aar_interface import Certificate, Role
from support import ams
from support.distribution import push_application
from support.registry import RunningRegistry, running

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_failure_has_a_test_that_exists():
    section = PAGE.read_text().partition("## Failures of others")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 12
    for row in rows:
        named = NAMED.findall(row)
        assert named, f"no test is named in: {row}"
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text())
            functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
            assert name in functions, f"{path} has no {name}"


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[RunningRegistry]:
    with running(tmp_path_factory.mktemp("aar")) as server:
        yield server


def join(service: ams.Service, registry: RunningRegistry, mode: str) -> None:
    """Point a service at the registry."""
    own = Certificate.parse((service.home / "registry" / "client.crt").read_bytes())
    if registry.store.get(own.fingerprint) is None:
        registry.trust(own, Role.PUBLISHER if mode == "push" else Role.CLIENT)
    service.ok("config", "trust", "add", registry.home / "certs" / "server.crt")
    service.ok("config", "set", "registry.url", registry.url)
    service.ok("config", "set", "registry.fingerprint", str(registry.certificate.fingerprint))
    service.ok("config", "set", "registry.mode", mode)


def test_a_manual_pull_never_ends_the_service(tmp_path: Path, registry: RunningRegistry):
    with ams.running(tmp_path / "a") as service:
        process = ams._family(service.process.pid)
        # Before anything is set, with nothing there, for another architecture, and for real.
        service.fails("registry", "pull", "candy-pulled")
        join(service, registry, "manual")
        service.fails("registry", "pull", "candy-pulled")
        push_application(registry.publisher, "candy-pulled", architecture="arm64")
        service.fails("registry", "pull", "candy-pulled")
        push_application(registry.publisher, "candy-pulled", 1)
        service.ok("registry", "pull", "candy-pulled")
        service.ok("registry", "pull", "candy-pulled")
        assert "candy-pulled" in service.ok("application", "list")
        assert ams._family(service.process.pid) == process
        assert not service.logged("Traceback")


def test_no_upload_leaves_a_file_behind(
    tmp_path: Path, registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with ams.running(tmp_path / "a") as service:
        good = ams.write_package(tmp_path / "good", "good")
        bad = ams.write_package(tmp_path / "bad", "no name!")
        service.ok("application", "create", good)
        service.fails("application", "create", good)  # the name is taken
        service.fails("application", "create", bad)
        (tmp_path / "cut.tar.bz2").write_bytes(b"BZh91AY&SY and no more")
        service.fails("application", "create", tmp_path / "cut.tar.bz2")
        join(service, registry, "push")
        service.ok("registry", "sync")
        assert [path.name for path in (service.home / "data" / "uploads").iterdir()] == []
        ams.until(lambda: service.open_uploads() == 0)
    assert list(temporary.iterdir()) == []
    assert list((registry.home / "data" / "uploads").iterdir()) == []


def test_a_new_version_brings_its_metadata_to_registry_and_clients(
    tmp_path: Path, registry: RunningRegistry
):
    with ams.running(tmp_path / "p") as publisher, ams.running(tmp_path / "c") as client:
        join(publisher, registry, "push")
        join(client, registry, "pull")
        publisher.ok(
            "application", "create", ams.write_package(tmp_path / "1", "meta", tags=["a"])
        )
        newer = ams.write_package(tmp_path / "2", "meta", tags=["b"], addons=["other"])
        publisher.ok("registry", "sync")
        publisher.ok("application", "update", "meta", newer)
        publisher.ok("registry", "sync")
        client.ok("registry", "sync")
        listed = registry.client.get("/1.0/applications/meta").json()["metadata"]["versions"]
        assert [(v["number"], v["tags"]) for v in listed] == [(0, ["a"]), (1, ["b"])]
        (row,) = [
            row
            for row in client.api("GET", "/1.0/applications?recursion=1").json()["metadata"]
            if row["name"] == "meta"
        ]
        assert (row["tags"], row["addons"]) == (["b"], ["other"])
        (known,) = [
            row
            for row in publisher.api("GET", "/1.0/registry/applications").json()["metadata"]
            if row["name"] == "meta"
        ]
        assert known["tags"] == ["b"]
