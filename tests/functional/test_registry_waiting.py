"""What clients that wait for changes cost a PostgreSQL: one read per worker and commit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from support import engines, postgresql
from support.distribution import push_application
from support.registry import RunningRegistry, running

CLIENTS = 30


@pytest.fixture
def server() -> Iterator[postgresql.Server]:
    """A server that writes every statement down."""
    if reason := postgresql.missing():
        engines.unavailable(reason)
    with closing(postgresql.Server({"log_statement": "all"})) as server:
        yield server


def reads(server: postgresql.Server) -> int:
    """How often pages of the feed were read so far."""
    return len(re.findall(r"SELECT change\.seq", server.log))


def waiting(registry: RunningRegistry) -> int:
    (line,) = re.findall(r"^aar_waiting_clients (\d+)", registry.client.get("/metrics").text, re.M)
    return int(line)


def test_a_change_is_read_once_for_all_who_wait(server: postgresql.Server, tmp_path: Path):
    url = server.url(server.create())
    with (
        running(tmp_path, settings={"database": {"url": url}}) as registry,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        push_application(registry.publisher, "candy", 0)
        cursor = registry.client.get("/1.0/changes").json()["metadata"]["cursor"]
        sessions = [registry.new_session(registry.client.identity) for _ in range(CLIENTS)]

        def wait(number: int) -> list[int]:
            answer = sessions[number].get(f"/1.0/changes?since={cursor}&wait=60")
            return [change["number"] for change in answer.json()["metadata"]["changes"]]

        polls = [pool.submit(wait, number) for number in range(CLIENTS)]
        registry.until(lambda: waiting(registry) == CLIENTS)
        before = reads(server)
        push_application(registry.publisher, "candy", 1)
        assert [poll.result(60) for poll in polls] == [[1]] * CLIENTS
        # Each of the push's own commits wakes them; without sharing each of those costs CLIENTS.
        cost = reads(server) - before
    print(f"{cost} reads of the feed for one push, {CLIENTS} clients waiting")
    assert 1 <= cost < CLIENTS
