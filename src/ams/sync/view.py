"""What the registry holds, as its change feed told: a mirror in the database.

The cursor and the mirror change in one transaction per page, so that they never disagree. A new
history (another epoch, or another certificate) is read completely before it takes the place of
the old; what it lacks is carried over, marked by `CARRIED`, until somebody allows its removal.
Nothing here decides what to do about it (`ams.sync.plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa

from ams import schema
from ams.sync.feed import Change, Cursor, EpochChanged, FeedRefused, Page, check
from ams.sync.plan import RemoteVersion, Snapshot
from regkit import failpoints, logs
from regkit.database import Database, as_engine_error
from regkit.errors import Conflict
from regkit.oci.application import Key
from regkit.oci.digest import Digest

log = logs.get("ams.sync")

CARRIED = -1
"""`registry_version.seq` of a version that only an earlier history held."""
MAX_ROUNDS = 3
"""How often a complete reading begins again because the epoch changed while it went on."""
MAX_VERSIONS = 1_000_000
"""A registry that tells of more versions is broken or hostile; a real one holds thousands."""

_ID = 1


class ChangeSource(Protocol):
    """Where pages of the feed come from."""

    def changes(self, since: Cursor | None) -> Page:
        """Return the changes after `since` (None: from the beginning)."""
        ...


class View:
    """The mirror of one registry. One writer at a time: the sync engine's lock sees to it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Callable[[str], None]] = []

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the error, or an empty text, of each sync that is recorded."""
        self._listeners.append(listener)

    def snapshot(self) -> Snapshot | None:
        """Return what the registry holds; None before it was first read."""
        with self._database.read() as connection:
            state = state_of(connection)
            if state is None or not state.epoch:
                return None
            return Snapshot(state.epoch, state.seq, versions(connection))

    def cursor(self) -> Cursor | None:
        """Return how far the feed was read; None before the first time."""
        with self._database.read() as connection:
            state = state_of(connection)
        return Cursor(state.epoch, state.seq) if state is not None and state.epoch else None

    def offers(self, name: str, architecture: str) -> bool:
        """Whether the registry holds an application for an architecture."""
        table = schema.registry_version
        query = sa.select(table.c.number).where(
            table.c.name == name, table.c.architecture == architecture, table.c.seq != CARRIED
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def update(
        self,
        source: ChangeSource,
        fingerprint: str,
        imported: Callable[[], Mapping[Key, Digest]],
        *,
        accept: bool = False,
    ) -> int:
        """Read the feed up to its head; return how many changes were taken.

        `imported` tells the versions that came from a registry, and is asked when there is a new
        history: those that it lacks are carried over. `accept`: a feed that went back or
        contradicts the mirror is read anew, completely, instead of being refused. Raises
        FeedRefused, and what `source` raises.
        """
        with self._database.read() as connection:
            state = state_of(connection)
        if state is None or not state.epoch or state.fingerprint != fingerprint:
            return self._reread(source, fingerprint, imported)
        since = Cursor(state.epoch, state.seq)
        taken = 0
        try:
            while True:
                page = source.changes(since)
                check(page, since)
                self._apply(page, since)
                since = page.end(since)
                taken += len(page.changes)
                if since.seq >= page.head.seq:
                    return taken
        except EpochChanged as fault:
            log.warning("registry-epoch-changed", before=since.epoch, now=fault.epoch)
        except FeedRefused as fault:
            if not accept:
                raise
            log.warning("registry-feed-accepted", reason=str(fault))
        return taken + self._reread(source, fingerprint, imported)

    def record(self, now: datetime, error: str, *, succeeded: bool) -> None:
        """Keep how the last sync went (`now` aware)."""
        values: dict[str, Any] = {"checked_at": now, "error": error}
        if succeeded:
            values["succeeded_at"] = now
        with self._database.write() as connection:
            if state_of(connection) is None:
                _insert_state(connection, "", Cursor("", 0))
            connection.execute(
                schema.registry_state.update()
                .where(schema.registry_state.c.id == _ID)
                .values(**values)
            )
        for listener in self._listeners:
            listener(error)

    def last(self) -> tuple[datetime | None, datetime | None, str]:
        """Return when the registry was last checked, last with success, and the last error."""
        with self._database.read() as connection:
            state = state_of(connection)
        return (
            (None, None, "")
            if state is None
            else (
                state.checked_at,
                state.succeeded_at,
                state.error,
            )
        )

    def _apply(self, page: Page, since: Cursor) -> None:
        if not page.changes:
            return
        with self._database.write() as connection:
            failpoints.reach("sync.feed-step:before", as_engine_error)
            state = state_of(connection)
            if state is None or (state.epoch, state.seq) != (since.epoch, since.seq):
                raise Conflict("the registry is already being read: try again")
            mirror = versions(connection, {change.key.name for change in page.changes})
            before = dict(mirror)
            for change in page.changes:
                _follow(mirror, change)
            _store(connection, before, mirror, page.changes[-1].seq)
            connection.execute(
                schema.registry_state.update()
                .where(schema.registry_state.c.id == _ID)
                .values(seq=page.changes[-1].seq)
            )
        failpoints.reach("sync.feed-step:after")

    def _reread(
        self, source: ChangeSource, fingerprint: str, imported: Callable[[], Mapping[Key, Digest]]
    ) -> int:
        for _ in range(MAX_ROUNDS):
            try:
                fresh, end, taken = _read_all(source)
            except EpochChanged:
                continue
            self._swap(fingerprint, fresh, end, imported())
            return taken
        raise FeedRefused(
            "the registry's epoch keeps changing: is its database being restored, or do several "
            "registries answer at registry.url?"
        )

    def _swap(
        self,
        fingerprint: str,
        fresh: dict[Key, RemoteVersion],
        end: Cursor,
        imported: Mapping[Key, Digest],
    ) -> None:
        with self._database.write() as connection:
            rows = [_row(version, end.seq) for version in fresh.values()]
            rows += [
                _row(RemoteVersion(key, digest, 0, (), carried=True), CARRIED)
                for key, digest in imported.items()
                if key not in fresh
            ]
            connection.execute(schema.registry_version.delete())
            if rows:
                connection.execute(schema.registry_version.insert(), rows)
            if state_of(connection) is None:
                _insert_state(connection, fingerprint, end)
            connection.execute(
                schema.registry_state.update()
                .where(schema.registry_state.c.id == _ID)
                .values(fingerprint=fingerprint, epoch=end.epoch, seq=end.seq)
            )


def _read_all(source: ChangeSource) -> tuple[dict[Key, RemoteVersion], Cursor, int]:
    """Read a whole history from its beginning."""
    fresh: dict[Key, RemoteVersion] = {}
    page = source.changes(None)
    since = Cursor(page.head.epoch, 0)
    taken = 0
    while True:
        check(page, since)
        for change in page.changes:
            _follow(fresh, change)
        if len(fresh) > MAX_VERSIONS:
            raise FeedRefused(f"the registry tells of more than {MAX_VERSIONS} versions")
        since = page.end(since)
        taken += len(page.changes)
        if since.seq >= page.head.seq:
            return fresh, since, taken
        page = source.changes(since)


def _follow(mirror: dict[Key, RemoteVersion], change: Change) -> None:
    """Let `mirror` follow one change. Raises FeedRefused for one that contradicts it."""
    found = mirror.get(change.key)
    if change.kind == "removed":
        if found is None:
            raise FeedRefused(_fork(change, "removes what was never there"))
        del mirror[change.key]
        return
    if found is not None and not found.carried and found.digest != change.digest:
        raise FeedRefused(_fork(change, "changes a version, which never changes"))
    mirror[change.key] = RemoteVersion(change.key, change.digest, change.size, change.tags)


def _fork(change: Change, why: str) -> str:
    return (
        f"change {change.seq} of the registry, about {change.key}, {why}: its history isn't the "
        "one that was read before. Nothing was changed here; check the registry, then accept its "
        "state with 'amc registry sync --allow-deletions'"
    )


def _store(
    connection: sa.Connection,
    before: Mapping[Key, RemoteVersion],
    after: Mapping[Key, RemoteVersion],
    seq: int,
) -> None:
    table = schema.registry_version
    for key in [key for key, found in before.items() if after.get(key) != found]:
        connection.execute(
            table.delete().where(
                table.c.name == key.name,
                table.c.number == key.number,
                table.c.architecture == key.architecture,
            )
        )
    rows = [_row(found, seq) for key, found in after.items() if before.get(key) != found]
    if rows:
        connection.execute(table.insert(), rows)


def state_of(connection: sa.Connection) -> Any:
    """Return the row of `registry_state`; None before the first sync."""
    table = schema.registry_state
    return connection.execute(table.select().where(table.c.id == _ID)).one_or_none()


def _insert_state(connection: sa.Connection, fingerprint: str, cursor: Cursor) -> None:
    connection.execute(
        schema.registry_state.insert().values(
            id=_ID, fingerprint=fingerprint, epoch=cursor.epoch, seq=cursor.seq, error=""
        )
    )


def versions(
    connection: sa.Connection, names: Iterable[str] | None = None
) -> dict[Key, RemoteVersion]:
    """Return the mirror, or that of some applications, by key."""
    table = schema.registry_version
    query = table.select() if names is None else table.select().where(table.c.name.in_(names))
    found = (
        RemoteVersion(
            Key(row.name, row.number, row.architecture),
            Digest.parse(row.digest),
            row.size,
            tuple(row.tags),
            carried=row.seq == CARRIED,
        )
        for row in connection.execute(query).all()
    )
    return {version.key: version for version in found}


def _row(version: RemoteVersion, seq: int) -> dict[str, Any]:
    return {
        "name": version.key.name,
        "number": version.key.number,
        "architecture": version.key.architecture,
        "digest": str(version.digest),
        "size": version.size,
        "tags": list(version.tags),
        "seq": CARRIED if version.carried else seq,
    }
