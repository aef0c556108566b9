"""One read of the feed for all who wait at the same place of it."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from aar.feed import Cursor, Page
from aar.web.pages import ROOM, Pages
from regkit.errors import Unavailable

HEAD = Cursor("e" * 32, 7)


class Database:
    """Stands for the feed and the database's version; a read may be held up."""

    def __init__(self) -> None:
        self.number = 1
        self.reads: list[tuple[Cursor | None, int]] = []
        self.go_on = Event()
        self.go_on.set()
        self.faults: list[Exception] = []

    def read(self, since: Cursor | None, limit: int) -> Page:
        self.reads.append((since, limit))
        page = Page(Cursor(HEAD.epoch, self.number), HEAD, ())
        self.go_on.wait()
        if self.faults:
            raise self.faults.pop()
        return page

    def pages(self) -> Pages:
        return Pages(self.read, lambda: self.number)


def test_a_hundred_who_wait_at_one_place_cost_one_read():
    database = Database()
    pages = database.pages()
    database.go_on.clear()
    waiters = [gevent.spawn(pages.read, HEAD, 10) for _ in range(100)]
    gevent.sleep(0)
    database.go_on.set()
    gevent.joinall(waiters, timeout=20, raise_error=True)
    assert len(database.reads) == 1
    found: list[Any] = [waiter.value for waiter in waiters]
    assert len({id(page) for _, page in found}) == 1
    assert {version for version, _ in found} == {1}


def test_the_next_version_is_read_anew_and_other_places_for_themselves():
    database = Database()
    pages = database.pages()
    assert pages.read(HEAD, 10)[1].head.seq == 1
    database.number = 2
    assert pages.read(HEAD, 10)[1].head.seq == 2
    for since, limit in ((HEAD, 11), (None, 10), (Cursor(HEAD.epoch, 3), 10)):
        for _ in range(2):
            pages.read(since, limit)
    assert len(database.reads) == 5


def test_what_was_committed_while_it_was_read_is_read_by_the_next():
    database = Database()
    pages = database.pages()
    database.go_on.clear()
    early = gevent.spawn(pages.read, HEAD, 10)
    gevent.sleep(0)
    database.number = 2
    late = gevent.spawn(pages.read, HEAD, 10)
    gevent.sleep(0)
    database.go_on.set()
    gevent.joinall([early, late], timeout=20, raise_error=True)
    found: list[Any] = [early.value, late.value]
    assert [version for version, _ in found] == [1, 2]
    assert [page.head.seq for _, page in found] == [1, 2]


def test_a_fault_is_everybodys_and_isnt_kept():
    database = Database()
    pages = database.pages()
    database.go_on.clear()
    database.faults.append(Unavailable("away"))
    waiters = [gevent.spawn(pages.read, HEAD, 10) for _ in range(3)]
    gevent.sleep(0)
    database.go_on.set()
    gevent.joinall(waiters, timeout=20)
    assert [str(waiter.exception) for waiter in waiters] == ["away"] * 3
    assert pages.read(HEAD, 10)[0] == 1
    assert len(database.reads) == 2


@pytest.mark.parametrize("waiting", [1, 5])
def test_a_reader_that_is_ended_leaves_it_to_another(waiting: int):
    database = Database()
    pages = database.pages()
    database.go_on.clear()
    reader = gevent.spawn(pages.read, HEAD, 10)
    gevent.sleep(0)
    others = [gevent.spawn(pages.read, HEAD, 10) for _ in range(waiting)]
    gevent.sleep(0)
    reader.kill()
    database.go_on.set()
    gevent.joinall(others, timeout=20, raise_error=True)
    assert len(database.reads) == 2


def test_it_keeps_no_more_than_its_room():
    database = Database()
    pages = database.pages()
    for _ in range(2):
        for seq in range(2 * ROOM):
            pages.read(Cursor(HEAD.epoch, seq), 10)
    assert len(database.reads) == 3 * ROOM
