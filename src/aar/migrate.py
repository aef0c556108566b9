"""The registry on other engines: another database, another place for blobs, or both; and back.

Blobs never change, so that they are copied while the registry serves. The rows are copied at the
end, in one transaction, while nobody has the state open: that is the short stop. The feed keeps
epoch and sequence, trust and audit log every row, so that no site notices. Nothing of the source
is changed; the settings decide which of the two is the registry, and are written last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from aar import deployment, schema
from aar.registry import MIGRATIONS, blob_root, database_url
from aar.settings import CONFIGURATION, Settings
from regkit.database import Database
from regkit.errors import Conflict, ServiceError
from regkit.oci.digest import Digest
from regkit.progress import Advance
from regkit.storage import open_blobs
from regkit.upkeep import locks, moving
from regkit.upkeep.scrub import Wanted

FORMER = "main.yaml.before-migration"
ATTEMPTS = 3
"""How often the rest is copied while the registry serves, as there is more of it meanwhile."""


@dataclass(frozen=True)
class Plan:
    """What is to be moved. `blobs` and `size` (bytes) are what the target lacks."""

    database: bool
    storage: bool
    blobs: int
    size: int
    rows: dict[str, int]


class Migration:
    """Moves the registry of the state root `home` from where `source` says to where `target` does.

    Raises Invalid, Conflict, Unavailable when one of them can't be used.
    """

    def __init__(self, home: Path, source: Settings, target: Settings) -> None:
        self._home = home
        self._urls = database_url(home, source), database_url(home, target)
        self.moves_database = self._urls[0] != self._urls[1]
        self.moves_storage = _place(home, source) != _place(home, target)
        with ExitStack() as stack:
            self._source = _opened(stack, self._urls[0])
            self._target = _opened(stack, self._urls[1]) if self.moves_database else self._source
            self._from, self._to = (
                open_blobs(settings.storage, blob_root(home, settings))
                for settings in (source, target)
            )
            for store in (self._from, self._to):
                stack.callback(store.close)
                store.check()
            self._check_target()
            self._stack = stack.pop_all()

    def plan(self) -> Plan:
        """Look what there is to do; nothing is changed."""
        blobs = size = 0
        if self.moves_storage:
            blobs, size = moving.missing(self._to, self._wanted())
        counts = {}
        if self.moves_database:
            with self._source.read() as connection:
                for table in _tables():
                    number = sa.select(sa.func.count()).select_from(table)
                    counts[table.name] = connection.execute(number).scalar_one()
        return Plan(self.moves_database, self.moves_storage, blobs, size, counts)

    def total(self) -> int:
        """Return the size of all blobs in bytes."""
        return sum(item.size for item in self._wanted())

    def copy_blobs(self, count: Advance) -> None:
        """Copy blobs while the registry may serve, until there are hardly new ones."""
        if not self.moves_storage:
            return
        for _ in range(ATTEMPTS):
            moved = self._copy(count)
            if not moved.blobs:
                return

    def finish(self, count: Advance, switch: Callable[[], None]) -> dict[str, int]:
        """Copy the rest while nobody has the state open, then `switch` the settings.

        Returns how many rows each table has. Raises Conflict while a registry runs on it.
        """
        with self._alone():
            if self.moves_storage:
                moved = self._copy(count)
                if moved.gone:
                    raise ServiceError(
                        f"{len(moved.gone)} blobs are missing here: 'aar verify' tells which, and "
                        "what to do about it"
                    )
            counts: dict[str, int] = {}
            if self.moves_database:
                with self._source.read() as source, self._target.write() as target:
                    _check_alone(source)
                    self._check_rows(source, target)
                    counts = moving.rows(source, target, _tables(), schema.audit)
            if self.moves_storage:
                self._to.claim(self._identity())
            switch()
            return counts

    def close(self) -> None:
        """Close both; idempotent."""
        self._stack.close()

    def __enter__(self) -> Migration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copy(self, count: Advance) -> moving.Moved:
        moved = moving.blobs(self._from, self._to, self._wanted(), count)
        if moved.damaged:
            raise ServiceError(
                f"{len(moved.damaged)} blobs are damaged here, such as {moved.damaged[0]}: run "
                "'aar verify' first, which takes them out of service"
            )
        return moved

    def _wanted(self) -> list[Wanted]:
        blob = schema.blob
        query = sa.select(blob.c.digest, blob.c.size).where(blob.c.state == schema.PRESENT)
        with self._source.read() as connection:
            return [
                Wanted(Digest.parse(row.digest), row.size, True)
                for row in connection.execute(query.order_by(blob.c.digest))
            ]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        busy = (
            "the registry is running; what it has so far is copied. Stop it and run this again, "
            "which then takes seconds"
        )
        with locks.held(self._home / locks.STATE, busy):
            yield

    def _identity(self) -> str:
        with self._source.read() as connection:
            return deployment.identity(connection) or ""

    def _check_target(self) -> None:
        if self.moves_storage and self._to.owner() not in (None, self._identity()):
            raise Conflict(
                "the storage to move to holds the files of another registry: give another bucket, "
                "prefix or folder"
            )
        if self.moves_database:
            with self._source.read() as source, self._target.read() as target:
                self._check_rows(source, target)

    def _check_rows(self, source: sa.Connection, target: sa.Connection) -> None:
        """Check that nothing is lost by replacing the target's rows. Raises Conflict."""
        here, there = _state(source), _state(target)
        if there.empty:
            return
        name = self._target.name
        if here.epoch != there.epoch:
            raise Conflict(f"{name} holds another registry: move to an empty database")
        if there.seq > here.seq or there.logged > here.logged:
            raise Conflict(
                f"{name} holds a later state of this registry than {self._source.name}: conf/"
                "main.yaml may name the wrong one"
            )


@dataclass(frozen=True)
class _State:
    epoch: str
    seq: int
    logged: int
    empty: bool


def merged(current: Settings, target: Settings) -> Settings:
    """Return the settings with those sections replaced that the target's file has."""
    given = target.model_fields_set & {"database", "storage"}
    return current.model_copy(update={name: getattr(target, name) for name in given})


def switch(home: Path, target: dict[str, Any]) -> Path:
    """Make `conf/main.yaml` say what the target's file says; return where the former one went."""
    path = home / CONFIGURATION
    former = path.with_name(FORMER)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        text = b""
    document = yaml.safe_load(text) or {}
    document.update({name: target[name] for name in ("database", "storage") if name in target})
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(former, text)
    _write(path, yaml.safe_dump(document, sort_keys=False).encode())
    return former


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _opened(stack: ExitStack, url: str) -> Database:
    database = Database(url)
    stack.callback(database.close)
    database.migrate(MIGRATIONS)
    return database


def _place(home: Path, settings: Settings) -> object:
    s3 = settings.storage.s3
    if s3 is None:
        return blob_root(home, settings)
    return s3.endpoint, s3.region if s3.endpoint is None else "", s3.bucket, s3.prefix


def _tables() -> list[sa.Table]:
    return list(schema.metadata.sorted_tables)


def _state(connection: sa.Connection) -> _State:
    feed = connection.execute(schema.feed.select()).one()
    logged = connection.execute(sa.select(sa.func.max(schema.audit.c.seq))).scalar() or 0
    rows = any(
        connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first()
        for table in _tables()
        if table not in (schema.feed, schema.deployment)
    )
    return _State(feed.epoch, feed.seq, logged, not rows and feed.seq == 0)


def _check_alone(connection: sa.Connection) -> None:
    """Check that no other machine uses a database that a server keeps. Raises Conflict."""
    if connection.dialect.name != "postgresql":
        return
    others = connection.execute(
        sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    ).scalar_one()
    if others:
        raise Conflict(
            f"{others} other connections use the registry's database: stop the registry on every "
            "machine, then run this again"
        )


__all__ = ["Migration", "Plan", "merged", "switch"]
