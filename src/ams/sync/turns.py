"""Which of several services on one database syncs: one in the background, one at a time at all.

Two leases: that of the leader, whose background sync runs, and that of the turn, which the leader
and whoever syncs on demand take for each sync. Where there is one service, it is always its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from ams import schema
from regkit.database import Database
from regkit.errors import Conflict
from regkit.leases import Lease

PATIENCE = 600.0
"""Seconds to wait for the turn of another service, which may be moving gigabytes."""


class Alone:
    """The turns of the only service."""

    leads = True
    slice = None
    """Seconds that the leader may rest before it looks whether it still leads; None: any."""

    @contextmanager
    def leading(self) -> Iterator[bool]:
        """Be the leader within the context; gives whether this is so."""
        yield True

    @contextmanager
    def turn(self) -> Iterator[Callable[[], bool]]:
        """Have the turn within the context; gives a function that tells whether it was lost."""
        yield lambda: False

    def news(self) -> bool:
        """Whether another service has changed what a sync reads, since the last call."""
        return False


class Turns(Alone):
    """The turns of one of several services on `database`."""

    slice = 1.0

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leader = Lease(database, schema.lease, "sync-leader")
        self._turn = Lease(database, schema.lease, "sync")
        self._seen = -1

    @property
    def leads(self) -> bool:
        """Whether this service is surely the leader now."""
        return self._leader.held

    @contextmanager
    def leading(self) -> Iterator[bool]:
        """Be the leader within the context, unless another is. Raises Unavailable."""
        with self._leader.kept() as held:
            yield held

    @contextmanager
    def turn(self) -> Iterator[Callable[[], bool]]:
        """Wait for the turn. Raises Conflict when another service has it for too long."""
        with self._turn.kept(patience=PATIENCE) as held:
            if not held:
                raise Conflict("another unit of this service is syncing: try again later")
            yield lambda: not self._turn.held

    def news(self) -> bool:
        """Whether a row that a sync's plan is made from has changed; also by a sync of our own."""
        with self._database.read() as connection:
            number = connection.execute(sa.select(schema.revision.c.number)).scalar_one()
        changed, self._seen = number != self._seen, number
        return changed
