"""The number that stands for a database server's state: what it knows, and when."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from regkit.database.watching import Watch

PATIENCE = 30


class Server:
    """Answers a question when the test says so, with what it held when the question came."""

    def __init__(self) -> None:
        self.state = "first"
        self.away = False
        self.asked: queue.Queue[str] = queue.Queue()
        self.answering = threading.Semaphore(0)
        self.at_once = True

    def connect(self) -> Server:
        if self.away:
            raise OSError("away")
        return self

    def __call__(self) -> str:
        held = self.state
        if not self.at_once:
            self.asked.put(held)
            self.answering.acquire()
        if self.away:
            raise OSError("away")
        return held

    def close(self) -> None:
        return


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def watch(server: Server) -> Iterator[Watch]:
    watch = Watch(server.connect, clock=lambda: 0.0)  # nothing gets stale
    yield watch
    server.at_once = True
    server.answering.release(1000)
    watch.close()


@contextmanager
def asking(watch: Watch, times: int) -> Iterator[list[int]]:
    """Ask for the number in threads of their own; they have ended at the end."""
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(watch.fresh(PATIENCE))) for _ in range(times)
    ]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join(PATIENCE)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_it_stays_while_nobody_commits(watch: Watch):
    number = watch.fresh(PATIENCE)
    assert [watch.fresh(PATIENCE) for _ in range(20)] == [number] * 20
    assert watch.version() == number


def test_every_commit_before_the_call_is_known(watch: Watch, server: Server):
    seen = {watch.fresh(PATIENCE)}
    for number in range(20):
        server.state = str(number)
        seen.add(watch.fresh(PATIENCE))
    assert len(seen) == 21


def test_an_answer_to_a_question_from_before_is_not_enough(watch: Watch, server: Server):
    before = watch.fresh(PATIENCE)
    server.at_once = False
    assert server.asked.get(timeout=PATIENCE) == "first"
    server.state = "second"
    with asking(watch, 1) as found:
        until(lambda: len(watch._waiting) == 1)
        server.answering.release()
        assert server.asked.get(timeout=PATIENCE) == "second"
        assert not found
        server.answering.release()
    assert found != [before]


def test_all_that_wait_are_told_by_one_answer(watch: Watch, server: Server):
    watch.fresh(PATIENCE)
    server.at_once = False
    server.asked.get(timeout=PATIENCE)
    with asking(watch, 20) as found:
        until(lambda: len(watch._waiting) == 20)
        server.answering.release()
        server.asked.get(timeout=PATIENCE)
        server.answering.release()
    assert len(found) == 20
    assert len(set(found)) == 1


def test_while_the_server_is_away_no_number_holds(watch: Watch, server: Server):
    before = watch.fresh(PATIENCE)
    server.away = True
    seen = {watch.fresh(PATIENCE) for _ in range(3)}
    assert before not in seen
    assert len(seen) > 1
    server.away = False
    until(lambda: watch.fresh(PATIENCE) == watch.fresh(PATIENCE))


def test_a_server_that_says_nothing_is_not_waited_for(watch: Watch, server: Server):
    before = watch.fresh(PATIENCE)
    server.at_once = False
    server.asked.get(timeout=PATIENCE)
    assert watch.fresh(0.01) > before
