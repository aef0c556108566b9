"""Waiting for the next commit, with a version and a server that the test controls."""

from __future__ import annotations

import time

import gevent

from aar.web.watcher import Watcher


class Server:
    """Stands for the database and the server: what the watcher asks them."""

    def __init__(self) -> None:
        self.version = 1
        self.stops = False
        self.looks = 0

    def watcher(self) -> Watcher:
        return Watcher(self._look, lambda: self.stops, interval=0.001)

    def _look(self) -> int:
        self.looks += 1
        return self.version


def soon() -> float:
    return time.monotonic() + 20


def test_what_is_new_already_is_not_waited_for():
    server = Server()
    assert server.watcher().wait(seen=0, deadline=soon())


def test_deadline():
    server = Server()
    watcher = server.watcher()
    assert not watcher.wait(seen=1, deadline=time.monotonic() + 0.01)
    assert watcher.waiting == 0


def test_one_commit_wakes_all():
    server = Server()
    watcher = server.watcher()
    waiters = [gevent.spawn(watcher.wait, 1, soon()) for _ in range(100)]
    gevent.sleep(0)
    assert watcher.waiting == 100
    server.version = 2
    gevent.joinall(waiters, timeout=20, raise_error=True)
    assert [waiter.value for waiter in waiters] == [True] * 100
    assert watcher.waiting == 0


def test_a_second_wait_is_for_the_next_commit():
    server = Server()
    watcher = server.watcher()
    for version in (2, 3, 4):
        waiter = gevent.spawn(watcher.wait, watcher.version, soon())
        gevent.sleep(0)
        server.version = version
        assert waiter.get(timeout=20) is True


def test_stopping_wakes_all():
    server = Server()
    watcher = server.watcher()
    waiters = [gevent.spawn(watcher.wait, 1, soon()) for _ in range(10)]
    gevent.sleep(0)
    server.stops = True
    gevent.joinall(waiters, timeout=20, raise_error=True)
    assert [waiter.value for waiter in waiters] == [False] * 10
    assert watcher.wait(seen=1, deadline=soon()) is False


def test_nobody_looks_when_nobody_waits():
    server = Server()
    watcher = server.watcher()
    assert not watcher.wait(seen=1, deadline=time.monotonic() + 0.005)
    while watcher._looking is not None and not watcher._looking.dead:
        gevent.sleep(0.001)
    looks = server.looks
    gevent.sleep(0.01)
    assert server.looks == looks
