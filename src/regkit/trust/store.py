"""`TrustStore`: look up, add, remove, revoke, admit."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import sqlalchemy as sa

from aar_interface import Certificate, Fingerprint, Role
from regkit import failpoints
from regkit.database import Database, as_engine_error
from regkit.errors import Conflict, Forbidden, Invalid, NotFound
from regkit.trust import applying
from regkit.trust.applying import Applied, Wanted
from regkit.trust.rows import (
    MANUAL,
    Change,
    Entry,
    Observer,
    entry_of,
    from_row,
    nobody,
    revocation,
    row_of,
    to_row,
)

MIN_PREFIX = 8
"""The fewest digits of a fingerprint that may stand for it."""

SCOPE = "trust"
"""What is written under one lock: all rows, since a revocation holds for other rows' keys too."""

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


class TrustStore:
    """The certificates that a service trusts, and those that it never will again."""

    def __init__(self, database: Database, table: sa.Table, observer: Observer = nobody) -> None:
        """Keep rows in `table`; `observer` is told of every change but that of `last_used`."""
        self._database = database
        self._table = table
        self._observer = observer
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
        entry = entry_of(certificate, role, origin, architectures, now)
        with self._database.write(SCOPE) as connection:
            existing = row_of(connection, self._table, entry.fingerprint)
            if revoked := revocation(connection, self._table, entry.fingerprint, entry.key_hash):
                what = "this certificate" if existing else "the key of this certificate"
                raise Conflict(
                    f"{what} was revoked on {revoked:%Y-%m-%d %H:%M} UTC, which can't be undone: "
                    "make a new key and certificate on its machine"
                )
            if existing:
                raise Conflict("certificate already exists")
            connection.execute(self._table.insert().values(to_row(entry)))
            self._observer(connection, Change("added", entry, MANUAL))
        return entry

    def get(self, fingerprint: Fingerprint) -> Entry | None:
        """Return the row of `fingerprint`, trusted or revoked."""
        with self._database.read() as connection:
            return row_of(connection, self._table, fingerprint)

    def find(self, prefix: str, connection: sa.Connection | None = None) -> Entry:
        """Return the one row whose fingerprint begins with `prefix` (colons, case ignored).

        `connection`: look within the caller's transaction, which may have added it.
        Raises Invalid for too short a prefix or one that fits several, NotFound for none.
        """
        digits = prefix.strip().replace(":", "").lower()
        if len(digits) < MIN_PREFIX or len(digits) > 64 or set(digits) - set("0123456789abcdef"):
            raise Invalid(
                f"{prefix[:80]!r} is not a fingerprint: give at least {MIN_PREFIX} of its "
                "64 hexadecimal digits"
            )
        column = self._table.c.fingerprint
        with self._database.read() if connection is None else nullcontext(connection) as reading:
            found = reading.execute(
                self._table.select().where(column >= digits, column <= digits + "g").limit(2)
            ).all()
        if not found:
            raise NotFound(f"no certificate has a fingerprint that begins with {digits}")
        if len(found) > 1:
            raise Invalid(f"several fingerprints begin with {digits}: give more digits")
        return from_row(found[0]._mapping)

    def list(self, *, revoked: bool = False) -> list[Entry]:
        """Return the trusted rows, or the revoked ones, oldest first."""
        column = self._table.c.revoked
        condition = column.is_not(None) if revoked else column.is_(None)
        query = self._table.select().where(condition)
        with self._database.read() as connection:
            rows = connection.execute(
                query.order_by(self._table.c.added, self._table.c.fingerprint)
            ).all()
        return [from_row(row._mapping) for row in rows]

    def remove(self, fingerprint: Fingerprint) -> None:
        """Stop trusting; it may be added again.

        Raises NotFound, and Conflict for a revoked row, which stays for ever.
        """
        with self._database.write(SCOPE) as connection:
            entry = self._existing(connection, fingerprint)
            if entry.revoked:
                raise Conflict(
                    f"{fingerprint.short} was revoked on {entry.revoked:%Y-%m-%d %H:%M} UTC; "
                    "a revocation is kept for ever, there is nothing left to remove"
                )
            connection.execute(
                self._table.delete().where(self._table.c.fingerprint == str(fingerprint))
            )
            self._observer(connection, Change("removed", entry, MANUAL))

    def revoke(self, fingerprint: Fingerprint, now: datetime | None = None) -> None:
        """Refuse the certificate and its key for ever. Raises NotFound, Conflict if it is so."""
        now = now or datetime.now(timezone.utc)
        with self._database.write(SCOPE) as connection:
            entry = self._existing(connection, fingerprint)
            if entry.revoked:
                raise Conflict(
                    f"{fingerprint.short} was already revoked on "
                    f"{entry.revoked:%Y-%m-%d %H:%M} UTC"
                )
            failpoints.reach("trust.revoke:before", as_engine_error)
            connection.execute(
                self._table.update()
                .where(self._table.c.fingerprint == str(fingerprint))
                .values(revoked=now.isoformat())
            )
            failpoints.reach("trust.revoke:after")
            self._observer(connection, Change("revoked", replace(entry, revoked=now), MANUAL))

    def apply(
        self,
        owner: str,
        wanted: Iterable[Wanted],
        now: datetime | None = None,
        *,
        for_clients: bool = False,
        connection: sa.Connection | None = None,
    ) -> Applied:
        """Make the rows of `owner` exactly what is `wanted`, in one transaction.

        Its rows are those whose origin is `owner`, or begins with it and a colon; all others, and
        the revoked ones, stay as they are. `for_clients`: refuse certificates that can't stand
        for a client. `connection`: do it within the caller's writing transaction.

        Raises Invalid for an owner's name that can't be, and for a certificate that is wanted in
        two roles; nothing is changed then.
        """
        now = now or datetime.now(timezone.utc)
        with (
            self._database.write(SCOPE)
            if connection is None
            else nullcontext(connection) as writing
        ):
            return applying.apply(
                writing,
                self._table,
                owner,
                wanted,
                now,
                for_clients=for_clients,
                observer=self._observer,
            )

    def owned_by(self, owner: str, connection: sa.Connection | None = None) -> list[Entry]:
        """Return the trusted rows of `owner`, as `apply` counts them, sorted by fingerprint."""
        with self._database.read() if connection is None else nullcontext(connection) as reading:
            rows = applying.own_rows(reading, self._table, owner)
        return [rows[fingerprint] for fingerprint in sorted(rows)]

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

    def is_due(self, entry: Entry, now: datetime | None = None) -> bool:
        """Whether `touch` would write."""
        now = now or datetime.now(timezone.utc)
        return entry.last_used is None or now - entry.last_used >= LAST_USED_STEP

    def touch(self, entry: Entry, now: datetime | None = None) -> None:
        """Remember that `entry` was used, if that was last written long enough ago."""
        now = now or datetime.now(timezone.utc)
        if not self.is_due(entry, now):
            return
        with self._database.write(f"trust:{entry.fingerprint}") as connection:
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
                entry = row_of(connection, self._table, certificate.fingerprint)
                revoked = revocation(
                    connection, self._table, certificate.fingerprint, certificate.key_hash
                )
            found = (entry, revoked is not None)
            if entry is not None and len(cache) < 10_000:
                cache[certificate.fingerprint] = found
        return found

    def _existing(self, connection: sa.Connection, fingerprint: Fingerprint) -> Entry:
        entry = row_of(connection, self._table, fingerprint)
        if entry is None:
            raise NotFound(f"no certificate has the fingerprint {fingerprint}")
        return entry
