"""Who may come in: the trust store, the same for the registry and the management service.

Trust is a state, not a file: a row per certificate, looked up at every request, so that a change
acts at once in every process. What a role may do is the services' business.

Rules (FACTS and the register-clients page):
- the identity is the certificate's fingerprint; a row also keeps the public key's hash;
- a revoked row stays for ever and refuses its key too, in whatever certificate it comes back;
- every row has an origin, so that a relation removes only what it added.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

from aar_interface import Certificate, Fingerprint, Role
from regkit.database import Database
from regkit.errors import Conflict, Forbidden, Invalid, NotFound

MANUAL = "manual"
"""The origin of what an operator added; a relation's origin is its id."""

MIN_PREFIX = 8
"""The fewest digits of a fingerprint that may stand for it."""

LAST_USED_STEP = timedelta(minutes=10)
"""How coarse `last_used` is, so that reading costs no write."""


class Refused(Forbidden):
    """The caller isn't let in. `reason` is for the log, the message for the caller.

    `fingerprint` is that of the certificate shown, if any.
    """

    def __init__(self, reason: str, fingerprint: Fingerprint | None = None) -> None:
        super().__init__(f"not authorized: {reason}")
        self.reason = reason
        self.fingerprint = fingerprint


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


class TrustStore:
    """The certificates that a service trusts, and those that it never will again."""

    def __init__(self, database: Database, table: sa.Table) -> None:
        self._database = database
        self._table = table
        self._lock = threading.Lock()
        self._cached_version: int | None = None
        self._cache: dict[Fingerprint, tuple[Entry | None, bool]] = {}

    def add(
        self,
        certificate: Certificate,
        role: Role,
        origin: str = MANUAL,
        architectures: Iterable[str] = (),
        now: datetime | None = None,
    ) -> Entry:
        """Trust `certificate` from now on.

        Raises Invalid when it isn't valid at `now`, Conflict (`certificate already exists`) when
        it is trusted already, Conflict that says when for one that was revoked or stands on a
        revoked key.
        """
        now = now or datetime.now(timezone.utc)
        if fault := certificate.fault_at(now):
            raise Invalid(f"the certificate {fault}: make a new one on its machine")
        entry = Entry(
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
        with self._database.write() as connection:
            existing = self._row(connection, entry.fingerprint)
            if revoked := self._revocation(connection, entry.fingerprint, entry.key_hash):
                what = "this certificate" if existing else "the key of this certificate"
                raise Conflict(
                    f"{what} was revoked on {revoked:%Y-%m-%d %H:%M} UTC, which can't be undone: "
                    "make a new key and certificate on its machine"
                )
            if existing:
                raise Conflict("certificate already exists")
            connection.execute(self._table.insert().values(_to_row(entry)))
        return entry

    def get(self, fingerprint: Fingerprint) -> Entry | None:
        """Return the row of `fingerprint`, trusted or revoked."""
        with self._database.read() as connection:
            return self._row(connection, fingerprint)

    def find(self, prefix: str) -> Entry:
        """Return the one row whose fingerprint begins with `prefix` (colons, case ignored).

        Raises Invalid for too short a prefix or one that fits several, NotFound for none.
        """
        digits = prefix.strip().replace(":", "").lower()
        if len(digits) < MIN_PREFIX or len(digits) > 64 or set(digits) - set("0123456789abcdef"):
            raise Invalid(
                f"{prefix[:80]!r} is not a fingerprint: give at least {MIN_PREFIX} of its "
                "64 hexadecimal digits"
            )
        column = self._table.c.fingerprint
        with self._database.read() as connection:
            found = connection.execute(
                self._table.select().where(column >= digits, column <= digits + "g").limit(2)
            ).all()
        if not found:
            raise NotFound(f"no certificate has a fingerprint that begins with {digits}")
        if len(found) > 1:
            raise Invalid(f"several fingerprints begin with {digits}: give more digits")
        return _from_row(found[0]._mapping)

    def list(self, *, revoked: bool = False) -> list[Entry]:
        """Return the trusted rows, or the revoked ones, oldest first."""
        column = self._table.c.revoked
        condition = column.is_not(None) if revoked else column.is_(None)
        query = self._table.select().where(condition)
        with self._database.read() as connection:
            rows = connection.execute(
                query.order_by(self._table.c.added, self._table.c.fingerprint)
            ).all()
        return [_from_row(row._mapping) for row in rows]

    def remove(self, fingerprint: Fingerprint) -> None:
        """Stop trusting; it may be added again.

        Raises NotFound, and Conflict for a revoked row, which stays for ever.
        """
        with self._database.write() as connection:
            entry = self._existing(connection, fingerprint)
            if entry.revoked:
                raise Conflict(
                    f"{fingerprint.short} was revoked on {entry.revoked:%Y-%m-%d %H:%M} UTC; "
                    "a revocation is kept for ever, there is nothing left to remove"
                )
            connection.execute(
                self._table.delete().where(self._table.c.fingerprint == str(fingerprint))
            )

    def revoke(self, fingerprint: Fingerprint, now: datetime | None = None) -> None:
        """Refuse the certificate and its key for ever. Raises NotFound, Conflict if it is so."""
        now = now or datetime.now(timezone.utc)
        with self._database.write() as connection:
            entry = self._existing(connection, fingerprint)
            if entry.revoked:
                raise Conflict(
                    f"{fingerprint.short} was already revoked on "
                    f"{entry.revoked:%Y-%m-%d %H:%M} UTC"
                )
            connection.execute(
                self._table.update()
                .where(self._table.c.fingerprint == str(fingerprint))
                .values(revoked=now.isoformat())
            )

    def admit(self, certificate: Certificate | None, now: datetime | None = None) -> Entry:
        """Return the row of a caller who proved to hold `certificate`, or raise Refused.

        It costs about 3 µs while nothing in the database changes, so it may be asked again for
        every chunk of a transfer. No decision outlives the next commit of any process.
        """
        now = now or datetime.now(timezone.utc)
        if certificate is None:
            raise Refused("no client certificate was shown")
        fingerprint = certificate.fingerprint
        if fault := certificate.fault_at(now):
            raise Refused(f"the certificate {fault}", fingerprint)
        entry, revoked = self._look_up(certificate)
        if revoked:
            raise Refused("the certificate or its key was revoked", fingerprint)
        if entry is None:
            raise Refused("the certificate is not trusted", fingerprint)
        return entry

    def touch(self, entry: Entry, now: datetime | None = None) -> None:
        """Remember that `entry` was used, if that was last written long enough ago."""
        now = now or datetime.now(timezone.utc)
        if entry.last_used and now - entry.last_used < LAST_USED_STEP:
            return
        with self._database.write() as connection:
            connection.execute(
                self._table.update()
                .where(self._table.c.fingerprint == str(entry.fingerprint))
                .values(last_used=now.isoformat())
            )

    def _look_up(self, certificate: Certificate) -> tuple[Entry | None, bool]:
        # The version is read before the row: a commit in between leaves an older number with a
        # newer row, so the next call looks again. The other order would keep a stale row.
        version = self._database.version()
        with self._lock:
            if version != self._cached_version:
                self._cache = {}
                self._cached_version = version
            cache = self._cache
        found = cache.get(certificate.fingerprint)
        if found is None:
            with self._database.read() as connection:
                entry = self._row(connection, certificate.fingerprint)
                revoked = self._revocation(
                    connection, certificate.fingerprint, certificate.key_hash
                )
            found = (entry, revoked is not None)
            if entry is not None and len(cache) < 10_000:
                cache[certificate.fingerprint] = found
        return found

    def _row(self, connection: sa.Connection, fingerprint: Fingerprint) -> Entry | None:
        row = connection.execute(
            self._table.select().where(self._table.c.fingerprint == str(fingerprint))
        ).first()
        return None if row is None else _from_row(row._mapping)

    def _existing(self, connection: sa.Connection, fingerprint: Fingerprint) -> Entry:
        entry = self._row(connection, fingerprint)
        if entry is None:
            raise NotFound(f"no certificate has the fingerprint {fingerprint}")
        return entry

    def _revocation(
        self, connection: sa.Connection, fingerprint: Fingerprint, key_hash: str
    ) -> datetime | None:
        table = self._table
        moment = connection.execute(
            sa.select(sa.func.min(table.c.revoked)).where(
                sa.or_(table.c.fingerprint == str(fingerprint), table.c.key_hash == key_hash),
                table.c.revoked.is_not(None),
            )
        ).scalar()
        return datetime.fromisoformat(moment) if moment else None


def _to_row(entry: Entry) -> dict[str, Any]:
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


def _from_row(row: Any) -> Entry:
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
