"""The change feed: an epoch and a dense sequence of what was published and removed.

A change is appended inside the caller's transaction, as its last statements: the counter's row
serialises the writers from there to the commit, so that a reader never sees a number before a
smaller one (a sequence of the database engine would lose rows to it). The epoch names one history;
it is made at random, and anew when a backup is restored, since numbers may then be given twice.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from aar import schema
from regkit import failpoints
from regkit.database import Database, as_engine_error
from regkit.errors import Conflict, Invalid, ServiceError
from regkit.oci.application import Key
from regkit.oci.digest import Digest

MAX_LIMIT = 1000
"""The most changes that one read returns."""

Kind = Literal["published", "removed"]

_CURSOR = re.compile(r"([0-9a-f]{32}):([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True)
class Cursor:
    """A place in a history: everything up to `seq` has been seen. `str()` is `epoch:seq`."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read `<epoch>:<seq>`. Raises Invalid."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise Invalid(f"{text[:80]!r} is not a cursor: pass back the one of the last answer")
        return cls(match[1], int(match[2]))


class EpochChanged(ServiceError):  # noqa: N818 - the name states the fault
    """The cursor is of another history. `head` is where the present one stands."""

    status = 410

    def __init__(self, head: Cursor) -> None:
        super().__init__("the registry was restored or reinstalled: read everything anew")
        self.head = head


class CursorAhead(Conflict):
    """The cursor is beyond the head, which should not be possible within an epoch."""

    def __init__(self, head: Cursor) -> None:
        super().__init__(
            f"the cursor is beyond the registry's last change, {head.seq}: the registry went "
            "back in time; check whether an old backup was restored, then read everything anew"
        )
        self.head = head


@dataclass(frozen=True)
class NewChange:
    """A change to append. `by` is the publisher's fingerprint, "" for the local operator."""

    kind: Kind
    key: Key
    digest: Digest
    size: int
    tags: tuple[str, ...]
    at: datetime
    by: str


@dataclass(frozen=True)
class Change(NewChange):
    """A change that happened, with its place in the sequence."""

    seq: int


@dataclass(frozen=True)
class Page:
    """A run of changes without gaps. `cursor` is where to read on, `head` the last change."""

    head: Cursor
    cursor: Cursor
    changes: tuple[Change, ...]


def append(connection: sa.Connection, changes: Sequence[NewChange]) -> None:
    """Append to the feed, in the caller's transaction; it must be the last thing before commit."""
    if not changes:
        return
    table = schema.feed
    failpoints.reach("feed.append:before", as_engine_error)
    last = connection.execute(
        table.update()
        .where(table.c.id == 1)
        .values(seq=table.c.seq + len(changes))
        .returning(table.c.seq)
    ).scalar_one()
    first = last - len(changes) + 1
    connection.execute(
        schema.change.insert(),
        [_to_row(change, first + index) for index, change in enumerate(changes)],
    )
    failpoints.reach("feed.append:after")


class Feed:
    """Reads the feed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def head(self) -> Cursor:
        """Return the epoch and the last number given; its cost doesn't grow with the feed."""
        with self._database.read() as connection:
            return head_of(connection)

    def read(self, since: Cursor | None = None, limit: int = MAX_LIMIT) -> Page:
        """Return the changes after `since` (None: from the beginning), oldest first.

        At most `limit` of them, and never more than 1000. Raises EpochChanged, CursorAhead, and
        Invalid for a limit below 1.
        """
        if limit < 1:
            raise Invalid("limit must be at least 1")
        table = schema.change
        with self._database.read() as connection:
            head = head_of(connection)
            since = since or Cursor(head.epoch, 0)
            if since.epoch != head.epoch:
                raise EpochChanged(head)
            if since.seq > head.seq:
                raise CursorAhead(head)
            rows = connection.execute(
                table.select()
                .where(table.c.seq > since.seq)
                .order_by(table.c.seq)
                .limit(min(limit, MAX_LIMIT))
            ).all()
        changes = tuple(_from_row(row._mapping) for row in rows)
        seen = changes[-1].seq if changes else since.seq
        return Page(head, Cursor(head.epoch, seen), changes)


def rotate(connection: sa.Connection) -> str:
    """Begin a new history, in the caller's transaction; return its epoch."""
    epoch = new_epoch()
    connection.execute(schema.feed.update().where(schema.feed.c.id == 1).values(epoch=epoch))
    return epoch


def new_epoch() -> str:
    """Return a random epoch: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def head_of(connection: sa.Connection) -> Cursor:
    """Return where the feed stands, in the caller's transaction."""
    row = connection.execute(sa.select(schema.feed.c.epoch, schema.feed.c.seq)).one()
    return Cursor(row.epoch, row.seq)


def _to_row(change: NewChange, seq: int) -> dict[str, Any]:
    return {
        "seq": seq,
        "kind": change.kind,
        "name": change.key.name,
        "number": change.key.number,
        "architecture": change.key.architecture,
        "digest": str(change.digest),
        "size": change.size,
        "tags": list(change.tags),
        "at": schema.to_text(change.at),
        "by": change.by,
    }


def _from_row(row: Any) -> Change:
    return Change(
        kind=row["kind"],
        key=Key(row["name"], row["number"], row["architecture"]),
        digest=Digest.parse(row["digest"]),
        size=row["size"],
        tags=tuple(row["tags"]),
        at=schema.to_moment(row["at"]),
        by=row["by"],
        seq=row["seq"],
    )
