"""The rows of the trust store: the table, a row as a value, and a change of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from aar_interface import Certificate, Fingerprint, Role

MANUAL = "manual"
"""The origin of what an operator added; a relation's begins with its owner's name."""

ChangeKind = Literal["added", "changed", "removed", "revoked"]


@dataclass(frozen=True)
class Entry:
    """One row of the store. Times are aware, UTC; `certificate` is PEM."""

    fingerprint: Fingerprint
    key_hash: str
    role: Role
    certificate: str
    common_name: str
    issued: datetime
    expires: datetime
    added: datetime
    last_used: datetime | None
    origin: str
    revoked: datetime | None
    architectures: tuple[str, ...] = ()
    """The architectures that a publisher may push; empty: all."""

    @property
    def state(self) -> str:
        """`trusted` or `revoked`."""
        return "revoked" if self.revoked else "trusted"


@dataclass(frozen=True)
class Change:
    """A change of the store: `added`, `changed`, `removed` or `revoked`.

    `entry` is the row after it (for `removed`: before it), `before` that of a `changed` one, `by`
    the owner on whose behalf it was made, or MANUAL.
    """

    kind: ChangeKind
    entry: Entry
    by: str
    before: Entry | None = None


Observer = Callable[[sa.Connection, Change], None]
"""Told of every change inside its transaction, so that what it writes stands or falls with it."""


def nobody(_connection: sa.Connection, _change: Change) -> None:
    """Observe nothing."""


def trust_table(metadata: sa.MetaData) -> sa.Table:
    """Define the store's table in a service's metadata. Times are UTC, ISO 8601."""
    return sa.Table(
        "trust",
        metadata,
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("key_hash", sa.String(64), nullable=False, index=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("common_name", sa.String(255), nullable=False),
        sa.Column("issued", sa.String(32), nullable=False),
        sa.Column("expires", sa.String(32), nullable=False),
        sa.Column("added", sa.String(32), nullable=False),
        sa.Column("last_used", sa.String(32)),
        sa.Column("origin", sa.String(255), nullable=False),
        sa.Column("revoked", sa.String(32)),
        sa.Column("architectures", sa.Text, nullable=False),
    )


def entry_of(
    certificate: Certificate,
    role: Role,
    origin: str,
    architectures: Iterable[str],
    now: datetime,
) -> Entry:
    """Return the row of a certificate that is trusted from `now` on."""
    return Entry(
        fingerprint=certificate.fingerprint,
        key_hash=certificate.key_hash,
        role=role,
        certificate=certificate.pem,
        common_name=certificate.common_name,
        issued=certificate.issued,
        expires=certificate.expires,
        added=now,
        last_used=None,
        origin=origin,
        revoked=None,
        architectures=tuple(sorted(set(architectures))),
    )


def row_of(connection: sa.Connection, table: sa.Table, fingerprint: Fingerprint) -> Entry | None:
    """Return the row of `fingerprint`, trusted or revoked."""
    row = connection.execute(table.select().where(table.c.fingerprint == str(fingerprint))).first()
    return None if row is None else from_row(row._mapping)


def revocation(
    connection: sa.Connection, table: sa.Table, fingerprint: Fingerprint, key_hash: str
) -> datetime | None:
    """Say when the certificate, or its key in whatever certificate, was first revoked."""
    moment = connection.execute(
        sa.select(sa.func.min(table.c.revoked)).where(
            sa.or_(table.c.fingerprint == str(fingerprint), table.c.key_hash == key_hash),
            table.c.revoked.is_not(None),
        )
    ).scalar()
    return datetime.fromisoformat(moment) if moment else None


def to_row(entry: Entry) -> dict[str, Any]:
    """Return the columns of `entry`."""
    return {
        "fingerprint": str(entry.fingerprint),
        "key_hash": entry.key_hash,
        "role": str(entry.role),
        "certificate": entry.certificate,
        "common_name": entry.common_name,
        "issued": entry.issued.isoformat(),
        "expires": entry.expires.isoformat(),
        "added": entry.added.isoformat(),
        "last_used": entry.last_used.isoformat() if entry.last_used else None,
        "origin": entry.origin,
        "revoked": entry.revoked.isoformat() if entry.revoked else None,
        "architectures": json.dumps(entry.architectures),
    }


def from_row(row: Any) -> Entry:
    """Read a row's columns."""
    return Entry(
        fingerprint=Fingerprint(row["fingerprint"]),
        key_hash=row["key_hash"],
        role=Role(row["role"]),
        certificate=row["certificate"],
        common_name=row["common_name"],
        issued=datetime.fromisoformat(row["issued"]),
        expires=datetime.fromisoformat(row["expires"]),
        added=datetime.fromisoformat(row["added"]),
        last_used=datetime.fromisoformat(row["last_used"]) if row["last_used"] else None,
        origin=row["origin"],
        revoked=datetime.fromisoformat(row["revoked"]) if row["revoked"] else None,
        architectures=tuple(json.loads(row["architectures"])),
    )
