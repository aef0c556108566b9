"""Several management services on one PostgreSQL and one bucket: one catalogue, and one of them
syncs. All of it is real: two `ams serve`, an `aar serve`, the database's and the bucket's servers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from aar_interface import Certificate, Role
from ams import shared_storage
from ams.service import Service
from ams.settings import Settings
from regkit import leases
from regkit.errors import Invalid
from regkit.oci.digest import Digest
from support import ams, engines, postgresql
from support import registry as registries
from support.ams import until, write_package
from support.distribution import push_application
from support.postgresql import PASSWORD, QUOTED, Server
from support.radosgw import SECRET_KEY

pytestmark = pytest.mark.skipif(bool(postgresql.missing()), reason=postgresql.missing() or "-")

PATIENCE = 60


@pytest.fixture
def database_url(postgresql_server: Callable[[], Server]) -> Iterator[str]:
    server = postgresql_server()
    name = server.create("ams:migrations")
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[registries.RunningRegistry]:
    with registries.running(tmp_path / "aar") as server:
        yield server


Units = Callable[[Role], list[ams.Service]]


@pytest.fixture
def units(
    tmp_path: Path, database_url: str, registry: registries.RunningRegistry
) -> Iterator[Units]:
    """Two services that share everything, in touch with the registry in one role."""
    gateway = engines.radosgw()
    settings = {
        "http": {"addr": "127.0.0.1:0"},
        "architecture": "amd64",
        "database": {"url": database_url},
        "storage": {"s3": gateway.settings(gateway.new_prefix())},
    }
    with ExitStack() as stack:

        def start(role: Role) -> list[ams.Service]:
            started = []
            for name in ("one", "two"):
                configuration = tmp_path / name / "conf" / "main.yaml"
                configuration.parent.mkdir(parents=True)
                configuration.touch(mode=0o600)
                configuration.write_text(yaml.safe_dump(settings))
                started.append(stack.enter_context(ams.running(tmp_path / name)))
                registry.trust(certificate(started[-1]), role)
            server = tmp_path / "server.crt"
            server.write_text(registry.certificate.pem)
            one = started[0]
            one.ok("config", "trust", "add", server)
            one.ok("config", "set", "registry.fingerprint", str(registry.certificate.fingerprint))
            mode = "push" if role is Role.PUBLISHER else "pull"
            one.ok("config", "set", "registry.mode", mode)
            one.ok("config", "set", "registry.url", registry.url)
            return started

        yield start


def certificate(unit: ams.Service) -> Certificate:
    return Certificate.parse((unit.home / "registry" / "client.crt").read_bytes())


def imports(unit: ams.Service) -> int:
    """How many versions a unit has brought from the registry, by its log."""
    return sum(line.split()[2:3] == ["sync-step-done"] for line in unit.log)


def asked(registry: registries.RunningRegistry, unit: ams.Service) -> bool:
    """Whether the registry has ever heard of a unit."""
    entry = registry.store.get(certificate(unit).fingerprint)
    return entry is not None and entry.last_used is not None


def holds(unit: ams.Service, *versions: int) -> bool:
    """Whether a unit lists exactly these versions of candy."""
    rows = unit.api("GET", "/1.0/applications?recursion=1").json()["metadata"]
    found = [version["number"] for row in rows for version in row["versions"]]
    return sorted(found) == sorted(versions)


def exported(unit: ams.Service, version: int, folder: Path) -> bytes:
    target = folder / f"{unit.home.name}-{version}.tar.bz2"
    unit.ok("application", "export", "candy", str(version), "--force", "--output", target)
    return target.read_bytes()


def test_one_syncs_both_serve_and_when_it_is_killed_the_other_goes_on(
    units: Units, registry: registries.RunningRegistry, tmp_path: Path
) -> None:
    pair = units(Role.CLIENT)
    for number in range(3):
        push_application(registry.publisher, "candy", number, files={"app.apk": b"%d" % number})
        until(lambda n=number: all(holds(unit, *range(n + 1)) for unit in pair), PATIENCE)
    until(lambda: sum(map(imports, pair)) == 3, PATIENCE)
    other, holder = sorted(pair, key=imports)
    assert (imports(other), imports(holder)) == (0, 3)
    assert asked(registry, holder)
    assert not asked(registry, other), "the registry was asked by a unit that doesn't lead"
    first = exported(holder, 0, tmp_path)
    assert exported(other, 0, tmp_path) == first, "what one imported the other serves"

    holder.kill()
    begin = time.monotonic()
    push_application(registry.publisher, "candy", 3, files={"app.apk": b"3"})
    until(lambda: holds(other, 0, 1, 2, 3), PATIENCE)
    took = time.monotonic() - begin
    print(f"the other unit had a new version {took:.1f} s after the holder's death")
    assert took > leases.SECONDS / 3, "the lease of a unit that lives was taken from it"
    until(lambda: imports(other) == 1)
    assert asked(registry, other)
    assert exported(other, 0, tmp_path) == first
    for unit in pair:
        for secret in (PASSWORD, QUOTED, SECRET_KEY):
            assert secret not in "\n".join(unit.log)


def test_what_any_of_them_is_told_reaches_the_registry(
    units: Units, registry: registries.RunningRegistry, tmp_path: Path
) -> None:
    pair = units(Role.PUBLISHER)

    def published() -> list[dict[str, Any]]:
        return registry.publisher.get("/1.0/applications?recursion=1").json()["metadata"]

    for name, unit in zip(("candy", "kiosk"), pair, strict=True):
        unit.ok("application", "create", write_package(tmp_path / name, name))
    until(lambda: {row["name"] for row in published()} == {"candy", "kiosk"}, PATIENCE)
    rows = json.loads(pair[0].ok("application", "list", "--format", "json"))
    assert json.loads(pair[1].ok("application", "list", "--format", "json")) == rows
    # Made by one, taken back by the other.
    pair[1].ok("application", "delete", "candy", "--yes")
    until(lambda: [row["name"] for row in published()] == ["kiosk"], PATIENCE)
    report = pair[1].ok("registry", "sync")
    assert "Nothing to do" in report
    assert sum(asked(registry, unit) for unit in pair) >= 1


# One database takes one store of blobs


def service(home: Path, url: str, root: Path | None = None, **more: Any) -> Service:
    storage = {"fs": {"root-directory": root}} if root else {}
    settings = {"architecture": "amd64", "database": {"url": url}, "storage": storage}
    return Service(home, Settings.model_validate(settings), **more)


def test_a_service_whose_files_are_elsewhere_does_not_start(
    tmp_path: Path, database_url: str
) -> None:
    shared = tmp_path / "mounted"
    service(tmp_path / "one", database_url, shared).stop()
    service(tmp_path / "one", database_url, shared).stop()
    service(tmp_path / "two", database_url, shared).stop()
    with pytest.raises(Invalid, match=r"set the storage\.s3 or storage\.fs\.root-directory"):
        service(tmp_path / "three", database_url)
    service(tmp_path / "three", database_url, check_storage=shared_storage.adopt).stop()
    service(tmp_path / "three", database_url).stop()
    with pytest.raises(Invalid, match="keep their files elsewhere"):
        service(tmp_path / "one", database_url, shared)


def test_what_tells_the_stores_apart_is_no_garbage(tmp_path: Path, database_url: str) -> None:
    with service(tmp_path / "one", database_url) as one:
        stray = b"nobody's"
        with one.blobs.stage("stray") as staged:
            staged.write(stray)
            staged.seal(Digest.of(stray))
            staged.publish()
        assert one.catalogue.collect_garbage(grace=timedelta(seconds=-60)).blobs == 1
    service(tmp_path / "one", database_url).stop()


def test_what_is_being_read_by_another_service_is_left_alone(
    tmp_path: Path, database_url: str
) -> None:
    shared = tmp_path / "mounted"
    with service(tmp_path / "one", database_url, shared) as one:
        one.blobs.stage("package-of-one-0").close()
        with service(tmp_path / "two", database_url, shared) as two:
            two.start_background()
            assert [info.name for info in two.blobs.staged()] == ["package-of-one-0"]
