"""Records of the sync: what was pushed, what must be withdrawn, what is set aside.

Withdrawals are written by the catalogue, in the transaction that revokes or deletes; here they are
only read and settled. No rule about them lives here (`ams.sync.plan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ams import schema
from ams.sync.plan import Pushed, Quarantined
from regkit import failpoints
from regkit.database import Database, as_engine_error
from regkit.oci.application import Key
from regkit.oci.digest import Digest

UNDER_WAY = ""
"""The epoch of a push that has begun: after a crash it tells that the version may be there."""
FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(hours=24)


class Ledger:
    """The tables `pushed`, `withdrawal` and `quarantine`, by version key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pushed(self) -> dict[Key, Pushed]:
        """Return what this site pushed."""
        return pushed_of(self._rows(schema.pushed))

    def withdrawals(self) -> dict[Key, Digest]:
        """Return what must leave the registry."""
        return withdrawals_of(self._rows(schema.withdrawal))

    def quarantine(self) -> dict[Key, Quarantined]:
        """Return what is set aside."""
        return quarantine_of(self._rows(schema.quarantine))

    def record_push(self, key: Key, digest: Digest, epoch: str, now: datetime) -> None:
        """Note that a version is in the registry, or on its way there (UNDER_WAY)."""
        with self._writing() as connection:
            connection.execute(_delete(schema.pushed, key))
            connection.execute(
                schema.pushed.insert().values(
                    **_columns(key), digest=str(digest), epoch=epoch, at=now
                )
            )

    def withdrawn(self, key: Key, digest: Digest) -> None:
        """Note that a version left the registry: neither withdrawal nor push remains."""
        with self._writing() as connection:
            connection.execute(
                _delete(schema.withdrawal, key).where(schema.withdrawal.c.digest == str(digest))
            )
            connection.execute(_delete(schema.pushed, key))

    def settle(self, withdrawals: Iterable[tuple[Key, Digest]], pushes: Iterable[Key]) -> None:
        """Drop withdrawals that need nothing any more, and records of pushes."""
        with self._writing() as connection:
            for key, digest in withdrawals:
                connection.execute(
                    _delete(schema.withdrawal, key).where(
                        schema.withdrawal.c.digest == str(digest)
                    )
                )
            for key in pushes:
                connection.execute(_delete(schema.pushed, key))

    def set_aside(self, key: Key, digest: Digest, reason: str, now: datetime) -> datetime:
        """Quarantine a version; return when it is tried again: after 1, 2, 4 … minutes."""
        table = schema.quarantine
        with self._writing() as connection:
            row = connection.execute(table.select().where(_is(table, key))).one_or_none()
            same = row is not None and row.digest == str(digest)
            attempts = row.attempts + 1 if same and row is not None else 1
            since = row.since if same and row is not None else now
            doublings = min(attempts - 1, 20)
            retry_at = now + min(FIRST_RETRY * 2**doublings, LONGEST_RETRY)
            connection.execute(_delete(table, key))
            connection.execute(
                table.insert().values(
                    **_columns(key),
                    digest=str(digest),
                    reason=reason,
                    attempts=attempts,
                    since=since,
                    retry_at=retry_at,
                )
            )
        return retry_at

    def release(self, keys: Iterable[Key]) -> None:
        """Take versions out of quarantine."""
        keys = list(keys)
        if not keys:
            return
        with self._writing() as connection:
            for key in keys:
                connection.execute(_delete(schema.quarantine, key))

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._database.write() as connection:
            failpoints.reach("ledger.write:before", as_engine_error)
            yield connection
        failpoints.reach("ledger.write:after")

    def _rows(self, table: sa.Table) -> list[Any]:
        with self._database.read() as connection:
            return list(connection.execute(table.select()).all())


def pushed_of(rows: Iterable[Any]) -> dict[Key, Pushed]:
    """Return rows of `pushed` as values."""
    return {_key(row): Pushed(Digest.parse(row.digest), row.epoch) for row in rows}


def withdrawals_of(rows: Iterable[Any]) -> dict[Key, Digest]:
    """Return rows of `withdrawal` as values."""
    return {_key(row): Digest.parse(row.digest) for row in rows}


def quarantine_of(rows: Iterable[Any]) -> dict[Key, Quarantined]:
    """Return rows of `quarantine` as values."""
    return {
        _key(row): Quarantined(Digest.parse(row.digest), row.reason, row.attempts, row.retry_at)
        for row in rows
    }


def _key(row: Any) -> Key:
    return Key(row.name, row.number, row.architecture)


def _columns(key: Key) -> dict[str, Any]:
    return {"name": key.name, "number": key.number, "architecture": key.architecture}


def _is(table: sa.Table, key: Key) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == value for name, value in _columns(key).items()))


def _delete(table: sa.Table, key: Key) -> sa.Delete:
    return table.delete().where(_is(table, key))
