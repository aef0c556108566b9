"""Leases: one holder, by the database's clock, and nothing done by a holder that lost it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from regkit.database import Database
from regkit.leases import Lease, LeaseLost, lease_table
from support.postgresql import Databases

METADATA = sa.MetaData()
TABLE = lease_table(METADATA)


@pytest.fixture
def database(tmp_path: Path, databases: Databases) -> Iterator[Database]:
    with closing(databases.open(tmp_path / "lease.db")) as opened:
        with opened.write() as connection:
            METADATA.create_all(connection)
        yield opened


def lease(database: Database) -> Lease:
    return Lease(database, TABLE, "work")


def expire(database: Database) -> None:
    """Let time pass, as the database sees it."""
    with database.write() as connection:
        connection.execute(
            TABLE.update().values(expires=TABLE.c.expires - 3600, done=TABLE.c.done - 3600)
        )


def fenced(database: Database, held: Lease) -> None:
    with database.write("other") as connection:
        held.fence(connection)


def test_one_holder_at_a_time(database: Database) -> None:
    first, second = lease(database), lease(database)
    assert first.take()
    assert not second.take()
    assert first.take()  # renewed
    assert (first.held, second.held) == (True, False)
    fenced(database, first)
    with pytest.raises(LeaseLost):
        fenced(database, second)
    first.release()
    assert second.take()
    assert (first.held, second.held) == (False, True)


def test_whoever_lost_it_can_do_nothing_and_get_nothing_back(database: Database) -> None:
    first, second = lease(database), lease(database)
    assert first.take()
    expire(database)
    assert second.take()
    with pytest.raises(LeaseLost):
        fenced(database, first)
    assert not first.take()
    first.release()  # not its to release
    fenced(database, second)


def test_an_expired_lease_is_of_no_use_even_to_its_holder(database: Database) -> None:
    held = lease(database)
    assert held.take()
    expire(database)
    with pytest.raises(LeaseLost):
        fenced(database, held)
    assert held.take()  # anew
    fenced(database, held)


def test_work_that_was_finished_is_due_later(database: Database) -> None:
    first, second = lease(database), lease(database)
    with first.kept(every=600) as due:
        assert due
        with second.kept(every=600) as again:
            assert not again
    assert not second.take(every=600)
    expire(database)
    with second.kept(every=600) as due:
        assert due


def test_work_that_failed_is_due_at_once(database: Database) -> None:
    held = lease(database)
    with pytest.raises(RuntimeError), held.kept(every=600):
        raise RuntimeError
    assert lease(database).take(every=600)


def test_nobody_takes_it_while_a_fenced_transaction_runs(database: Database) -> None:
    first, second = lease(database), lease(database)
    assert first.take()
    order: list[str] = []
    with database.write("other") as connection:
        first.fence(connection)
        taking = threading.Thread(target=lambda: order.append(f"taken {take_after_expiry()}"))

        def take_after_expiry() -> bool:
            expire(database)  # waits for the fence, as a take-over does
            return second.take()

        taking.start()
        taking.join(0.3)
        order.append("done")
    taking.join(30)
    assert order == ["done", "taken True"]


def test_of_many_who_try_at_once_one_gets_it(database: Database) -> None:
    leases = [lease(database) for _ in range(6)]
    start = threading.Barrier(len(leases))
    got: list[bool] = []

    def take(held: Lease) -> None:
        start.wait(10)
        got.append(held.take())

    threads = [threading.Thread(target=take, args=(held,)) for held in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(got) == [False] * 5 + [True]
