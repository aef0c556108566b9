"""Downloads that wait for their clients are cut when these may no longer receive them."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from aar.web.transfers import Transfers


class Connection:
    def __init__(self) -> None:
        self.cut = False

    def reset(self) -> None:
        self.cut = True


class World:
    """A database's version, and who may go on."""

    def __init__(self) -> None:
        self.commits = 0
        self.asked = 0
        self.revoked: set[Connection] = set()

    def version(self) -> int:
        return self.commits

    def may_go_on(self, connection: Connection) -> bool:
        self.asked += 1
        return connection not in self.revoked


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def transfers(world: World) -> Transfers:
    return Transfers(world.version, interval=0.001)


def stalled(transfers: Transfers, world: World, connection: Connection) -> gevent.Greenlet:
    """Start a download whose client doesn't read; it returns how it ended."""
    begun = Event()

    def send() -> str:
        try:
            with transfers.running(connection, lambda: world.may_go_on(connection)):
                begun.set()
                gevent.sleep(60)
        except BrokenPipeError as error:
            return str(error.strerror)
        return "whole"

    greenlet = gevent.spawn(send)
    assert begun.wait(5)
    return greenlet


def test_only_those_who_may_not_go_on_are_cut(world: World, transfers: Transfers):
    bad, good = Connection(), Connection()
    downloads = [stalled(transfers, world, connection) for connection in (bad, good)]
    world.revoked.add(bad)
    world.commits += 1
    assert downloads[0].get(timeout=5) == "trust ended during a transfer"
    assert (bad.cut, good.cut) == (True, False)
    assert not downloads[1].ready()
    downloads[1].kill()


def test_nobody_is_asked_for_while_nothing_is_committed(world: World, transfers: Transfers):
    download = stalled(transfers, world, Connection())
    gevent.sleep(0.02)
    before = world.asked
    gevent.sleep(0.05)
    assert world.asked == before
    world.commits += 1
    with gevent.Timeout(5):
        while world.asked == before:
            gevent.sleep(0.001)
    download.kill()


def test_looking_ends_with_the_last_download(world: World, transfers: Transfers):
    download = stalled(transfers, world, Connection())
    looking = transfers._looking
    assert looking is not None
    download.kill()
    looking.join(timeout=5)
    assert looking.dead
    # And begins again with the next, whose trust ended before anybody looked.
    gone = Connection()
    world.revoked.add(gone)
    assert stalled(transfers, world, gone).get(timeout=5) == "trust ended during a transfer"
