"""`aar migrate`: to every other pair of engines and back, beside a server, under kill -9."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aar import migrate, schema
from aar.registry import Registry
from aar.settings import CONFIGURATION, Settings
from aar_interface import Role
from regkit import failpoints
from regkit.errors import Conflict
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from regkit.settings import load
from support import engines, postgresql
from support.certificates import NOW, certify
from support.distribution import push_application, push_blob
from support.images import push
from support.operator import Operator
from support.registry import running

CANDY = Key("candy", 0, "amd64")
LARGE = os.urandom(1024) * 9000  # more than one part
STOLEN = certify(name="stolen")


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """The operator of an embedded registry with versions, trust, and a revoked certificate."""
    operator = Operator(tmp_path)
    with Registry(operator.home) as registry:
        push(registry, CANDY, {"app.apk": LARGE, "data": b"small"})
        push(registry, Key("candy", 1, "amd64"), {"app.apk": b"second"})
        registry.uploads.put("plain", Digest.of(b""), [b""])
        registry.trust.add(certify(name="kept"), Role.CLIENT, now=NOW)
        registry.trust.add(STOLEN, Role.PUBLISHER, now=NOW)
        registry.trust.revoke(STOLEN.fingerprint, now=NOW)
        registry.applications.remove("candy", 1, actor=None, now=NOW)
    return operator


Target = Callable[[str], Path]


@pytest.fixture
def target(tmp_path: Path, postgresql_server: Callable[[], postgresql.Server]) -> Iterator[Target]:
    """Writes the file for `--to` for some of `postgresql` and `s3`, as `postgresql+s3`."""
    made: list[str] = []

    def make(kinds: str) -> Path:
        document: dict[str, Any] = {}
        if "postgresql" in kinds:
            if reason := postgresql.missing():
                engines.unavailable(reason)
            made.append(postgresql_server().create())
            document["database"] = {"url": postgresql_server().url(made[-1])}
        if "s3" in kinds:
            gateway = engines.radosgw()
            document["storage"] = {"s3": gateway.settings(gateway.new_prefix())}
        return write(tmp_path / "to.yaml", document)

    yield make
    for name in made:
        postgresql_server().drop(name)


def write(path: Path, document: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


def settings_of(operator: Operator) -> Settings:
    return load(operator.home / CONFIGURATION, Settings)


def facts(operator: Operator) -> dict[str, Any]:
    """All rows and all content of the registry that conf/main.yaml names."""
    with Registry(operator.home, settings_of(operator)) as registry:
        found: dict[str, Any] = {}
        with registry.database.read() as connection:
            for table in schema.metadata.sorted_tables:
                rows = connection.execute(table.select()).all()
                found[table.name] = sorted(map(repr, rows))
            present = connection.execute(
                schema.blob.select().where(schema.blob.c.state == schema.PRESENT)
            ).all()
        for row in present:
            digest = Digest.parse(row.digest)
            content = b"".join(registry.blobs.read(digest))
            assert Digest.of(content, digest.algorithm) == digest
            found[row.digest] = len(content)
        return found


@pytest.mark.parametrize("kinds", ["postgresql", "s3", "postgresql+s3"])
def test_there_and_back_nothing_differs(operator: Operator, target: Target, kinds: str):
    before = facts(operator)
    former = settings_of(operator)
    to = target(kinds)
    assert re.match(r"Would move ", operator.ok("migrate", "--to", str(to), "--dry-run"))
    assert (facts(operator), settings_of(operator)) == (before, former)
    said = operator.ok("migrate", "--to", str(to))
    assert "Start the registry" in said
    assert settings_of(operator) != former
    assert facts(operator) == before
    assert "nothing to move" in operator.ok("migrate", "--to", str(to))

    with Registry(operator.home, settings_of(operator)) as registry:
        push(registry, Key("candy", 2, "arm64"), {"app.apk": b"pushed there"})
        registry.trust.add(certify(name="added there"), Role.CLIENT, now=NOW)
    after = facts(operator)
    assert after != before
    back = write(to, {"database": {}, "storage": {}})
    operator.ok("migrate", "--to", str(back))
    assert facts(operator) == after
    assert settings_of(operator).storage.s3 is None
    assert settings_of(operator).database.url is None
    with Registry(operator.home, settings_of(operator)) as registry:
        # The next rows find their numbers, and what was revoked or withdrawn stays so.
        push(registry, Key("candy", 3, "arm64"), {"app.apk": b"pushed at last"})
        with pytest.raises(Conflict, match="revoked"):
            registry.trust.add(STOLEN, Role.CLIENT, now=NOW)


@pytest.mark.parametrize(
    ("kinds", "point", "hit"),
    [
        ("s3", "blob.rename:before", 2),
        ("s3", "blob.rename:after", 1),
        # The first transaction there makes the tables.
        ("postgresql", "database.commit:before", 2),
        ("postgresql", "database.commit:after", 2),
    ],
)
def test_killed_in_the_middle_it_is_run_again(
    operator: Operator, target: Target, tmp_path: Path, kinds: str, point: str, hit: int
):
    before = facts(operator)
    former = settings_of(operator)
    to = target(kinds)
    folder = tmp_path / "failpoints"
    folder.mkdir()
    (folder / point).write_text(f"{hit} kill")
    killed = Operator(tmp_path, environ={failpoints.VARIABLE: str(folder)})
    assert killed.aar("migrate", "--to", str(to)).returncode == -signal.SIGKILL
    assert settings_of(operator) == former
    assert facts(operator) == before
    operator.ok("migrate", "--to", str(to))
    assert settings_of(operator) != former
    assert facts(operator) == before


def test_beside_a_server_and_after_its_stop(tmp_path: Path, target: Target):
    operator = Operator(tmp_path)
    to = target("postgresql+s3")
    with running(operator.home) as server:
        push_application(server.publisher, "candy", files={"app.apk": LARGE})
        said = operator.fails("migrate", "--to", str(to))
        assert "Stop it and run this again" in said
        # What is pushed after the first run follows in the second.
        push_blob(server.publisher, "candy", b"late")
        push_application(server.publisher, "candy", 1)
        server.stop()
    before = facts(operator)
    operator.ok("migrate", "--to", str(to))
    assert facts(operator) == before


def test_another_registry_is_not_overwritten(operator: Operator, target: Target, tmp_path: Path):
    to = target("postgresql")
    url = yaml.safe_load(to.read_text())["database"]["url"]
    other = Settings.model_validate({"database": {"url": url}})
    with Registry(tmp_path / "other", other) as registry:
        push(registry, CANDY)
    assert "holds another registry" in operator.fails("migrate", "--to", str(to))


def test_an_older_state_does_not_replace_a_newer_one(operator: Operator, target: Target):
    embedded = settings_of(operator)
    to = target("postgresql")
    operator.ok("migrate", "--to", str(to))
    moved = settings_of(operator)
    with Registry(operator.home, moved) as registry:
        registry.trust.add(certify(name="later"), Role.CLIENT, now=NOW)
    with pytest.raises(Conflict, match="a later state of this registry"):
        migrate.Migration(operator.home, embedded, moved)


def test_other_machines_must_have_stopped(operator: Operator, target: Target, tmp_path: Path):
    to = target("postgresql")
    operator.ok("migrate", "--to", str(to))
    with Registry(tmp_path / "unit", settings_of(operator)) as unit:
        unit.feed.head()
        back = write(to, {"database": {}})
        assert "stop the registry on every machine" in operator.fails("migrate", "--to", str(back))
        assert settings_of(operator).database.url is not None
    operator.ok("migrate", "--to", str(back))


def test_damaged_blobs_stop_it(operator: Operator, target: Target):
    digest = Digest.of(LARGE)
    path = operator.home / "data/blobs/sha256" / digest.hex[:2] / digest.hex
    path.write_bytes(LARGE[:-1] + b"?")
    to = target("s3")
    assert "aar verify" in operator.fails("migrate", "--to", str(to))
    assert operator.aar("verify").returncode != 0
    operator.ok("migrate", "--to", str(to))


def test_conf_keeps_everything_else_and_stays_private(operator: Operator, target: Target):
    conf = write(operator.home / CONFIGURATION, {"http": {"addr": "127.0.0.1:3001"}})
    to = target("s3")
    operator.ok("migrate", "--to", str(to), "--keep-config")
    assert settings_of(operator).storage.s3 is None
    operator.ok("migrate", "--to", str(to))
    assert settings_of(operator).http.addr.port == 3001
    assert conf.stat().st_mode & 0o777 == 0o600
    former = conf.with_name(migrate.FORMER)
    assert yaml.safe_load(former.read_text()) == {"http": {"addr": "127.0.0.1:3001"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [("http: {}", "neither a section 'database' nor 'storage'"),
     ("storage: {s3: {bucket: b}}", "storage.s3.bucket"),
     ("storages: {}", "unknown key")],
)  # fmt: skip
def test_what_cannot_be_moved_to_is_refused(operator: Operator, text: str, says: str):
    to = operator.home / "to.yaml"
    to.write_text(text)
    assert says in operator.fails("migrate", "--to", str(to))
