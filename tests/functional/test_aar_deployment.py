"""A registry that was used starts on no other database or storage unless it is told to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from aar import deployment, schema
from aar.registry import Registry
from aar.settings import CONFIGURATION, Settings
from aar_interface import Role
from regkit.database import Database
from regkit.errors import Invalid
from regkit.oci.application import Key
from regkit.settings import load
from support import engines, postgresql
from support.certificates import NOW, certify
from support.images import push
from support.operator import Operator
from support.registry import running

CANDY = Key("candy", 0, "amd64")


@pytest.fixture
def new_database(
    postgresql_server: Callable[[], postgresql.Server],
) -> Iterator[Callable[[], str]]:
    """Makes an empty PostgreSQL database each time, and gives its URL."""
    if reason := postgresql.missing():
        engines.unavailable(reason)
    made: list[str] = []

    def make() -> str:
        made.append(postgresql_server().create())
        return postgresql_server().url(made[-1])

    yield make
    for name in made:
        postgresql_server().drop(name)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def configure(operator: Operator, **sections: Any) -> None:
    path = operator.home / CONFIGURATION
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({"http": {"addr": "127.0.0.1:0"}, **sections}))


def opened(operator: Operator, **more: Any) -> Registry:
    return Registry(operator.home, load(operator.home / CONFIGURATION, Settings), **more)


def used(operator: Operator) -> str:
    """Use the registry that conf/main.yaml names; return its identity."""
    with opened(operator) as registry:
        registry.check_storage()
        push(registry, CANDY)
        assert registry.remember()
        return registry.identity


def tables(url: str) -> list[str]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        return sa.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def test_an_empty_database_is_refused_and_left_as_it_is(
    operator: Operator, new_database: Callable[[], str]
):
    configure(operator, database={"url": new_database()})
    identity = used(operator)
    empty = new_database()
    configure(operator, database={"url": empty})
    for command in (["serve"], ["trust", "list"], ["gc"]):
        said = operator.fails(*command)
        assert "holds no registry" in said
        assert "aar adopt" in said
    assert tables(empty) == []
    assert deployment.remembered(operator.home) == identity


def test_another_registrys_database_is_refused(
    operator: Operator, tmp_path: Path, new_database: Callable[[], str]
):
    first, second = new_database(), new_database()
    configure(operator, database={"url": first})
    used(operator)
    other = Operator(tmp_path / "other")
    configure(other, database={"url": second})
    used(other)
    configure(operator, database={"url": second})
    said = operator.fails("serve")
    assert "holds another registry" in said
    assert "s3cret" not in said
    configure(operator, database={"url": first})
    with opened(operator) as registry:
        assert registry.applications.get("candy")


def test_a_lost_sqlite_file_is_no_empty_registry(operator: Operator):
    configure(operator)
    used(operator)
    for path in (operator.home / "data").glob("aar.db*"):
        path.unlink()
    assert "restore a backup" in operator.fails("serve")


@pytest.mark.parametrize("trusted", ["nobody", "relations"])
def test_a_root_that_was_never_used_may_join_any(
    operator: Operator, tmp_path: Path, new_database: Callable[[], str], trusted: str
):
    other = Operator(tmp_path / "other")
    configure(other, database={"url": new_database()})
    identity = used(other)
    configure(operator)
    with opened(operator) as registry:
        if trusted == "relations":
            registry.trust.add(certify(name="site"), Role.CLIENT, origin="juju:client:3", now=NOW)
        assert not registry.remember()
    shutil.copy(other.home / CONFIGURATION, operator.home / CONFIGURATION)
    with opened(operator) as registry:
        assert registry.identity == identity
    assert deployment.remembered(operator.home) == identity


def test_a_server_remembers_what_it_serves_as_soon_as_it_is_used(tmp_path: Path):
    with running(tmp_path / "state") as server:  # its sessions are trusted by hand
        server.until(lambda: deployment.remembered(server.home) is not None)


# -- storage -----------------------------------------------------------------------------------


def storage_of(kind: str, folder: Path) -> dict[str, Any]:
    if kind == "files":
        return {"fs": {"root-directory": str(folder)}}
    gateway = engines.radosgw()
    return {"s3": gateway.settings(gateway.new_prefix())}


@pytest.mark.parametrize("kind", ["files", "s3"])
def test_an_empty_or_foreign_storage_is_refused(operator: Operator, tmp_path: Path, kind: str):
    own = storage_of(kind, tmp_path / "own")
    configure(operator, storage=own)
    used(operator)

    empty = storage_of(kind, tmp_path / "empty")
    configure(operator, storage=empty)
    for command in ("serve", "verify", "gc"):
        assert "none of this registry's files" in operator.fails(command)

    other = Operator(tmp_path / "other")
    foreign = storage_of(kind, tmp_path / "foreign")
    configure(other, storage=foreign)
    used(other)
    configure(operator, storage=foreign)
    for command in ("serve", "verify", "gc"):
        assert "files of another registry" in operator.fails(command)

    configure(operator, storage=own)
    assert operator.ok("verify").endswith("Sound\n")


@pytest.mark.parametrize("kind", ["files", "s3"])
def test_a_storage_from_before_is_known_by_its_files(
    operator: Operator, tmp_path: Path, kind: str
):
    storage = storage_of(kind, tmp_path / "own")
    configure(operator, storage=storage)
    with opened(operator) as registry:
        push(registry, CANDY)
        assert registry.blobs.owner() is None
        registry.check_storage()
        assert registry.blobs.owner() == registry.identity


# -- deliberate changes ------------------------------------------------------------------------


def test_adopting_goes_on_with_what_is_there(
    operator: Operator, tmp_path: Path, new_database: Callable[[], str]
):
    configure(operator, database={"url": new_database()}, storage=storage_of("s3", tmp_path))
    before = used(operator)
    sections = {"database": {"url": new_database()}, "storage": storage_of("s3", tmp_path)}
    configure(operator, **sections)
    said = operator.fails("adopt", stdin="n\n")
    assert "not confirmed" in said
    assert deployment.remembered(operator.home) == before
    assert "0 applications and 0 trusted certificates" in operator.ok("adopt", "--yes")
    with opened(operator) as registry:
        registry.check_storage()
        assert deployment.remembered(operator.home) == registry.identity != before
        record = registry.audit.read()[-1].record
        assert (record.action, record.detail["before"]) == ("registry-adopted", before)
    with running(operator.home, settings=sections) as server:
        assert server.client.get("/1.0/applications").status_code == 200


def test_adopting_takes_a_storage_over_from_another_registry(operator: Operator, tmp_path: Path):
    other = Operator(tmp_path / "other")
    configure(other, storage=storage_of("files", tmp_path / "shared"))
    used(other)
    configure(operator, storage=storage_of("files", tmp_path / "shared"))
    with opened(operator) as registry, pytest.raises(Invalid, match="another registry"):
        registry.check_storage()
    assert "another registry, which won't start" in operator.ok("adopt", "--yes")
    with opened(operator) as registry:
        registry.check_storage()
    assert "files of another registry" in other.fails("serve")


def test_moving_takes_the_identity_along(
    operator: Operator, tmp_path: Path, new_database: Callable[[], str]
):
    configure(operator)
    identity = used(operator)
    target = tmp_path / "to.yaml"
    target.touch(mode=0o600)
    sections = {"database": {"url": new_database()}, "storage": storage_of("s3", tmp_path)}
    target.write_text(yaml.safe_dump(sections))
    operator.ok("migrate", "--to", str(target))
    with opened(operator) as registry:
        registry.check_storage()
        assert (registry.identity, registry.blobs.owner()) == (identity, identity)
    target.write_text(yaml.safe_dump({"database": {}, "storage": {}}))
    operator.ok("migrate", "--to", str(target))
    with opened(operator) as registry:
        registry.check_storage()
        assert registry.identity == identity


def test_moving_into_another_registrys_storage_is_refused(operator: Operator, tmp_path: Path):
    other = Operator(tmp_path / "other")
    configure(other, storage=storage_of("files", tmp_path / "other"))
    used(other)
    configure(operator)
    used(operator)
    target = tmp_path / "to.yaml"
    target.write_text(yaml.safe_dump({"storage": storage_of("files", tmp_path / "other")}))
    assert "another registry" in operator.fails("migrate", "--to", str(target))


@pytest.mark.parametrize("where", ["in place", "beside a lost database", "on a new machine"])
def test_restoring_needs_no_adopting(operator: Operator, tmp_path: Path, where: str):
    configure(operator)
    identity = used(operator)
    backup = str(tmp_path / "backup.tar")
    operator.ok("backup", backup)
    if where == "beside a lost database":
        for path in (operator.home / "data").glob("aar.db*"):
            path.unlink()
    if where == "on a new machine":
        shutil.rmtree(operator.home)
        configure(operator)
    operator.ok("restore", "--force", backup)
    with opened(operator) as registry:
        registry.check_storage()
        assert registry.identity == identity
        assert registry.applications.get("candy")


def test_another_registrys_backup_becomes_this_one(operator: Operator, tmp_path: Path):
    other = Operator(tmp_path / "other")
    configure(other)
    used(other)
    backup = str(tmp_path / "backup.tar")
    other.ok("backup", backup)
    configure(operator)
    identity = used(operator)
    operator.ok("restore", "--force", backup)
    with opened(operator) as registry:
        registry.check_storage()
        assert registry.identity == identity


def test_every_new_database_has_an_identity_of_its_own(tmp_path: Path):
    found = set()
    for name in ("a", "b"):
        database = Database(f"sqlite:///{tmp_path / name}.db")
        database.migrate("aar:migrations")
        with database.read() as connection:
            found.add(connection.execute(sa.select(schema.deployment.c.identity)).scalar_one())
        database.close()
    assert len(found) == 2
    assert all(len(identity) == 32 for identity in found)
