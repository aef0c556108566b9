"""Work that one process at a time does, whatever machine it is on: a lease in the database.

A lease has a holder, and ends by the database's clock unless it is renewed; so a holder that was
killed, or cut off, blocks nobody for longer than `SECONDS`. Whoever gets it anew gets a higher
term. `fence` lets nothing be done on behalf of a lease that was lost: inside a transaction it
makes sure that the lease is still held, and that nobody takes it before the commit.

Where there is only one machine, file locks (`regkit.upkeep.locks`) are simpler, and are let go of
at once. What the work is, and when it is due, is the callers' business.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from regkit import logs
from regkit.database import Database, clock
from regkit.errors import Conflict, ServiceError

log = logs.get("regkit.leases")

SECONDS = 15.0
"""How long a lease holds without being renewed."""
RENEW = SECONDS / 3
PAUSE = 0.2
"""Seconds between two tries to get a lease that another holds."""


def lease_table(metadata: sa.MetaData) -> sa.Table:
    """Define the table of leases in a service's metadata. Times are seconds since 1970."""
    return sa.Table(
        "lease",
        metadata,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("done", sa.Double, nullable=False),
    )


class LeaseLost(Conflict):
    """Another process may have the lease now, so that the work was stopped."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the lease of {name} was lost to another unit: it goes on there")


class Lease:
    """The lease `name`, as one process sees it. Not for several threads at once but `fence`."""

    def __init__(
        self, database: Database, table: sa.Table, name: str, holder: str | None = None
    ) -> None:
        """`holder` tells processes apart; by default this machine's name and something random."""
        self._database = database
        self._table = table
        self.name = name
        self.holder = holder or f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(8)}"
        self._term = 0
        self._until = float("-inf")  # by this machine's monotonic clock; earlier than the truth

    @property
    def held(self) -> bool:
        """Whether it is surely held now."""
        return time.monotonic() < self._until

    def take(self, every: float = 0.0) -> bool:
        """Get it, or renew it, and return whether it is held; with `every`, only when work is due.

        Due is what was `finished` at least `every` seconds ago, or never. Raises Unavailable.
        """
        table, begin = self._table, time.monotonic()
        with self._database.write(self._scope) as connection:
            now = connection.execute(sa.select(clock.seconds())).scalar_one()
            row = connection.execute(table.select().where(table.c.name == self.name)).first()
            mine = (
                row is not None
                and (row.holder, row.term) == (self.holder, self._term)
                and row.expires > now
            )
            if row is not None and not mine and (row.expires > now or row.done + every > now):
                self._until = float("-inf")
                return False
            if row is None:
                self._term = 1
                connection.execute(
                    table.insert().values(
                        name=self.name, holder=self.holder, term=1, expires=now + SECONDS,
                        done=0.0,
                    )
                )  # fmt: skip
            else:
                self._term = row.term if mine else row.term + 1
                connection.execute(
                    table.update()
                    .where(table.c.name == self.name)
                    .values(holder=self.holder, term=self._term, expires=now + SECONDS)
                )
        self._until = begin + SECONDS
        return True

    def fence(self, connection: sa.Connection) -> None:
        """Hold the lease until the caller's transaction ends. Raises LeaseLost without it."""
        table = self._table
        found = connection.execute(
            sa.select(table.c.term)
            .where(
                table.c.name == self.name,
                table.c.holder == self.holder,
                table.c.term == self._term,
                table.c.expires > clock.seconds(),
            )
            .with_for_update(read=True)
        ).first()
        if found is None:
            self._until = float("-inf")
            raise LeaseLost(self.name)

    def release(self, *, finished: bool = False) -> None:
        """Let go of it, if it is held; `finished`: the work is done, and due again later."""
        table = self._table
        self._until = float("-inf")
        values: dict[str, object] = {"expires": 0.0}
        if finished:
            values["done"] = clock.seconds()
        with self._database.write(self._scope) as connection:
            connection.execute(
                table.update()
                .where(
                    table.c.name == self.name,
                    table.c.holder == self.holder,
                    table.c.term == self._term,
                )
                .values(**values)
            )

    @contextmanager
    def kept(
        self, every: float = 0.0, patience: float = 0.0, *, counts: bool = True
    ) -> Iterator[bool]:
        """Take it, waiting up to `patience` seconds, and renew it in the background meanwhile.

        Gives whether it is held; when it is, `held` and `fence` tell whether it still is. The work
        counts as finished when the context ends without an error, unless it doesn't count at all.
        """
        deadline = time.monotonic() + patience
        while not (taken := self.take(every)) and time.monotonic() < deadline:
            time.sleep(PAUSE)
        if not taken:
            yield False
            return
        stop = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(stop,), daemon=True)
        renewing.start()
        finished = False
        try:
            yield True
            finished = counts
        finally:
            stop.set()
            renewing.join(SECONDS)
            try:
                self.release(finished=finished)
            except ServiceError as error:
                log.warning("lease-not-released", name=self.name, reason=str(error))

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(RENEW):
            try:
                if not self.take():
                    log.warning("lease-lost", name=self.name)
                    return
            except ServiceError as error:
                log.warning("lease-not-renewed", name=self.name, reason=str(error))

    @property
    def _scope(self) -> str:
        return f"lease:{self.name}"


Fence = Callable[[sa.Connection], None]
"""Raises LeaseLost inside a transaction that must not take place."""


def unfenced(_connection: sa.Connection) -> None:
    """Stand for the fence where a file lock does the work."""
