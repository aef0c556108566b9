"""The audit log: who changed what, and who was refused. Rows are only ever added.

A row is written in the same transaction as what it tells, so that neither is there without the
other; triggers refuse to change or drop one (an administrator of the machine can remove triggers:
against that, copies elsewhere help). What the rows of refusals are made of is `aar.refusals`'
business, and who may read the log that of the machine: there is no door to it but `aar audit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from aar import schema
from regkit.database import Database
from regkit.errors import Invalid
from regkit.trust import MANUAL, MIN_PREFIX, Change, Entry

MAX_LIMIT = 100_000
"""The most rows of one answer."""

MAX_SUBJECT, MAX_BY = 1024, 64
"""Longer texts are cut: a log isn't where to store things."""

_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Record:
    """Something that happened.

    `action` is a word such as `version-published`; `subject` what it happened to; `by` a
    fingerprint, the name of an owner such as `juju`, "manual" for the operator on the machine, or
    "" for nobody known. `count` is how often, `address` where from.
    """

    action: str
    subject: str
    by: str = MANUAL
    detail: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    count: int = 1


@dataclass(frozen=True)
class Row:
    """A record with its place in the log and its time (aware, UTC)."""

    seq: int
    at: datetime
    record: Record


def append(
    connection: sa.Connection, records: Sequence[Record], now: datetime | None = None
) -> None:
    """Add to the log, in the caller's transaction."""
    if not records:
        return
    at = schema.to_text(now or datetime.now(timezone.utc))
    connection.execute(
        schema.audit.insert(),
        [
            {
                "at": at,
                "action": record.action,
                "by": _text(record.by, MAX_BY),
                "subject": _text(record.subject, MAX_SUBJECT),
                "address": _text(record.address, MAX_BY),
                "count": record.count,
                "detail": dict(record.detail),
            }
            for record in records
        ],
    )


def _text(text: str, longest: int) -> str:
    """Cut what is too long, and show NUL as what it is: PostgreSQL keeps none."""
    return text.replace("\0", "\\0")[:longest]


def by_caller(actor: Entry | None) -> str:
    """Name who acts: a caller's fingerprint, or the operator on the machine."""
    return str(actor.fingerprint) if actor else MANUAL


def trust_changed(connection: sa.Connection, change: Change) -> None:
    """Tell of a change of the trust store; its observer."""
    entry = change.entry
    detail: dict[str, Any] = _described(entry) | {
        "common-name": entry.common_name,
        "expires": entry.expires.isoformat(),
    }
    if change.before is not None:
        detail["before"] = _described(change.before)
    append(
        connection,
        [Record(f"trust-{change.kind}", str(entry.fingerprint), change.by, detail)],
    )


class Audit:
    """Reads the log, and adds what belongs to no other transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, records: Sequence[Record]) -> None:
        """Add to the log. Raises NoSpace, Unavailable."""
        with self._database.write("audit") as connection:
            append(connection, records)

    def read(
        self, by: str = "", since: datetime | None = None, limit: int = MAX_LIMIT
    ) -> list[Row]:
        """Return the last `limit` rows that pass, oldest first.

        `by`: only what one caller did, given as the beginning of a fingerprint (8 digits or
        more), an owner's name, or "manual". Raises Invalid for a beginning that is too short or
        fits several.
        """
        table = schema.audit
        query = table.select().order_by(table.c.seq.desc()).limit(min(limit, MAX_LIMIT))
        with self._database.read() as connection:
            if by:
                query = query.where(table.c.by == _named(connection, by))
            if since is not None:
                query = query.where(table.c.at >= schema.to_text(since))
            rows = connection.execute(query).all()
        return [_row(row._mapping) for row in reversed(rows)]


def _named(connection: sa.Connection, by: str) -> str:
    """Return whom the log calls so; a fingerprint may be given by its beginning."""
    digits = by.strip().replace(":", "").lower()
    if set(digits) - _DIGITS:
        return by
    if len(digits) < MIN_PREFIX:
        raise Invalid(f"{by[:80]!r} is too short: give at least {MIN_PREFIX} digits")
    column = schema.audit.c.by
    query = sa.select(column).where(column >= digits, column <= digits + "g").distinct().limit(2)
    found = list(connection.execute(query).scalars())
    if len(found) > 1:
        raise Invalid(f"several fingerprints begin with {digits}: give more digits")
    return found[0] if found else digits


def _described(entry: Entry) -> dict[str, Any]:
    return {
        "role": str(entry.role),
        "origin": entry.origin,
        "architectures": list(entry.architectures),
    }


def _row(row: Any) -> Row:
    record = Record(
        action=row["action"],
        subject=row["subject"],
        by=row["by"],
        detail=row["detail"],
        address=row["address"],
        count=row["count"],
    )
    return Row(row["seq"], schema.to_moment(row["at"]), record)
