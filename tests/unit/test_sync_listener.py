"""The long-poll: on which connection, when it wakes the engine, and how long it waits first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Queue

import pytest

from ams.sync.feed import Cursor, Page
from ams.sync.listener import Listener
from regkit.errors import ServiceError, Unavailable

EPOCH = "0" * 32
PATIENCE = 10.0
HERE, THERE = Cursor(EPOCH, 1), Cursor(EPOCH, 2)


class Door:
    """A registry whose polls end when the test says so, one connection of possibly several."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.open = True

    @property
    def url(self) -> str:
        return "https://registry.example"

    def changes(self, since: Cursor | None, wait: int = 0) -> Page:
        assert self.open, "a closed connection was used"
        assert since == HERE
        assert wait > 0
        self._registry.polls.put(self)
        answer = self._registry.answers.get(timeout=PATIENCE)
        if isinstance(answer, ServiceError):
            raise answer
        return Page(head=answer, changes=())

    def close(self) -> None:
        self.open = False


class Registry:
    def __init__(self) -> None:
        self.polls: Queue[Door] = Queue()
        self.answers: Queue[Cursor | ServiceError] = Queue()
        self.doors: list[Door] = []

    def connect(self) -> Door:
        self.doors.append(Door(self))
        return self.doors[-1]

    def polled(self) -> Door:
        return self.polls.get(timeout=PATIENCE)


class Engine:
    """Is woken; `spread` is what it tells the listener to let pass."""

    def __init__(self) -> None:
        self.woken = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self.spread = 0.0

    def delay(self) -> float:
        self.asked.release()
        return self.spread


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def listener(registry: Registry, engine: Engine) -> Iterator[Listener]:
    open_door: Callable[[], Door] = registry.connect
    listener = Listener(open_door, lambda: HERE, engine.woken.release, engine.delay)  # type: ignore[arg-type]
    yield listener
    listener.stop()
    registry.answers.put(HERE)
    thread = listener._thread
    if thread is not None:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not any(door.open for door in registry.doors), "a connection was left open"


def test_one_connection_serves_as_long_as_nothing_is_new(
    listener: Listener, registry: Registry, engine: Engine
) -> None:
    listener.listen()
    for _ in range(3):
        registry.polled()
        registry.answers.put(HERE)
    registry.polled()
    assert len(registry.doors) == 1
    assert not engine.woken.acquire(blocking=False)


def test_news_wake_the_engine_once_and_end_the_connection(
    listener: Listener, registry: Registry, engine: Engine
) -> None:
    listener.listen()
    first = registry.polled()
    registry.answers.put(THERE)
    assert engine.woken.acquire(timeout=PATIENCE)
    listener.listen()
    assert registry.polled() is not first
    assert not first.open
    assert not engine.woken.acquire(blocking=False)


def test_being_asked_again_takes_the_settings_of_now_at_the_next_poll(
    listener: Listener, registry: Registry
) -> None:
    listener.listen()
    first = registry.polled()
    listener.listen()
    registry.answers.put(HERE)
    assert registry.polled() is not first
    assert not first.open


def test_a_registry_that_fails_wakes_the_engine_at_once(
    listener: Listener, registry: Registry, engine: Engine
) -> None:
    engine.spread = 3600
    listener.listen()
    registry.polled()
    registry.answers.put(Unavailable("it is gone"))
    assert engine.woken.acquire(timeout=PATIENCE)
    assert not engine.asked.acquire(blocking=False)


def test_news_wait_for_their_turn_and_stopping_ends_the_wait(
    listener: Listener, registry: Registry, engine: Engine
) -> None:
    engine.spread = 3600
    listener.listen()
    registry.polled()
    registry.answers.put(THERE)
    assert engine.asked.acquire(timeout=PATIENCE)
    listener.stop()
    thread = listener._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not engine.woken.acquire(blocking=False)
