"""What is said of progress where there is no terminal: little, in plain lines."""

from __future__ import annotations

import time

import pytest

from ams.amc import progress
from ams.client import Operation


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


def state(told: object) -> Operation:
    return Operation("1", "Syncing", "Running", 103, True, "", {"progress": told})


def test_a_short_transfer_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.transfer("Uploading app", 1000) as advance:
        clock.now += progress.QUIET - 0.1
        advance(1000)
    assert capsys.readouterr().err == ""


def test_a_long_transfer_says_how_far_it_is_now_and_then(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.transfer("Uploading app", 4_000_000) as advance:
        for _ in range(40):
            clock.now += 1
            advance(100_000)
    assert capsys.readouterr().err.splitlines() == [
        "Uploading app: 1.0 MB of 4.0 MB",
        "Uploading app: 2.0 MB of 4.0 MB",
        "Uploading app: 3.0 MB of 4.0 MB",
        "Uploading app: 4.0 MB of 4.0 MB",
    ]


def test_a_transfer_of_unknown_size(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.transfer("Downloading app", None) as advance:
        clock.now += progress.QUIET
        advance(500)
    assert capsys.readouterr().err == "Downloading app: 500 bytes\n"


def test_an_operation(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.operation("Synchronising") as watcher:
        watcher.show(state({"step": "pull a 0", "done": 1, "total": 2}))
        clock.now += progress.QUIET
        watcher.show(state(None))
        clock.now += progress.QUIET
        watcher.show(state({"step": "pull a\x1b[31m 0", "done": 1000, "total": 2000}))
    assert watcher.every == progress.QUIET
    assert capsys.readouterr().err.splitlines() == [
        "Synchronising",
        "pull a[31m 0: 1.0 kB of 2.0 kB",
    ]


@pytest.mark.parametrize("told", [None, [], "x", {"step": 1, "done": "a", "total": {}}, {}])
def test_what_the_service_tells_may_be_anything(
    told: object, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.operation("Synchronising") as watcher:
        clock.now += progress.QUIET
        watcher.show(state(told))
    assert capsys.readouterr().err == "Synchronising\n"


def test_chunks_are_counted_when_they_are_gone() -> None:
    counts: list[int] = []
    chunks = progress.counted([b"ab", b"cde"], counts.append)
    assert next(chunks) == b"ab"
    assert counts == []
    assert list(chunks) == [b"cde"]
    assert counts == [2, 3]
