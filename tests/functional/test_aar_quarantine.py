"""`aar quarantine` beside a running registry, and a site that would push everything again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aar_interface import Role
from ams.packages import read
from ams.service import Service
from ams.settings import Settings
from support.distribution import push_application
from support.operator import Operator
from support.registry import RunningRegistry, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running(tmp_path / "state") as server:
        yield server


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def service(server: RunningRegistry, home: Path, mode: str) -> Service:
    made = Service(home, Settings(architecture="amd64"))
    role = Role.PUBLISHER if mode == "push" else Role.CLIENT
    server.trust(made.identity.certificate, role)
    made.trust.add(server.certificate, Role.CLIENT)
    made.options.set("registry.url", server.url)
    made.options.set("registry.fingerprint", str(server.certificate.fingerprint))
    made.options.set("registry.mode", mode)
    return made


def test_clients_remove_it_and_its_site_does_not_bring_it_back(
    server: RunningRegistry, operator: Operator, tmp_path: Path
):
    package = tmp_path / "package"
    package.mkdir()
    (package / "manifest.yaml").write_text("name: bad\ninstance-type: a4.3\n")
    push_application(server.publisher, "good")
    with (
        service(server, tmp_path / "a", "push") as site,
        service(server, tmp_path / "b", "pull") as client,
    ):
        by = str(site.identity.certificate.fingerprint)
        with read(package, site.blobs) as content:
            site.catalogue.create(content)
        site.sync.sync_now()
        client.sync.sync_now()
        assert [app.name for app in client.catalogue.list()] == ["bad", "good"]

        said = operator.aar("quarantine", "--by", by[:12], "--dry-run")
        assert said.stdout.endswith("WITHDRAWN:\n  bad 0 amd64\n")
        assert "is still trusted" in said.stderr
        client.sync.sync_now()
        assert len(client.catalogue.list()) == 2

        done = operator.aar("quarantine", "--by", by[:12], stdin="n\n")
        assert done.returncode == 1
        assert server.client.get("/1.0/applications/bad").status_code == 200
        done = operator.aar("quarantine", "--by", by[:12], stdin="yes\n")
        assert f"1 versions of {by} withdrawn\n" in done.stdout
        assert server.client.get("/1.0/applications/bad").status_code == 404
        client.sync.sync_now()
        assert [app.name for app in client.catalogue.list()] == ["good"]

        # In push mode a site pushes what the registry lacks: by itself, and when it is told to.
        site.sync.sync_now()
        with pytest.raises(Exception, match="quarantine"):
            site.sync.push("bad")
        assert server.client.get("/1.0/applications/bad").status_code == 404
        [row] = json.loads(operator.ok("quarantine", "--list", "--format", "json"))
        assert (row["name"], row["version"], row["published-by"]) == ("bad", 0, by)

        said = operator.ok("quarantine", "--by", by, "--release")
        assert said == f"Released bad 0 amd64\n1 versions of {by} may be pushed again\n"
        assert site.sync.push("bad").done == ("push bad 0-amd64",)
        client.sync.sync_now()
        assert [app.name for app in client.catalogue.list()] == ["bad", "good"]


def test_a_publisher_who_is_gone(server: RunningRegistry, operator: Operator):
    push_application(server.publisher, "candy")
    by = str(server.publisher.fingerprint)
    server.revoke(server.publisher)
    done = operator.aar("quarantine", "--by", by[:8], "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Withdrew candy 0 amd64\n1 versions of {by} withdrawn\n"
    assert "nothing was published by" in operator.fails("quarantine", "--by", "0" * 8)
    assert operator.ok("quarantine", "--list").count("candy") == 1


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--list", "--by", "12345678"),
        ("--list", "--release"),
        ("--by", "12345678", "--release", "--dry-run"),
    ],
)
def test_wrong_usage(operator: Operator, options: tuple[str, ...]):
    operator.fails("quarantine", *options, code=2)
    assert not operator.home.exists()
