"""Events: who hears what, how often, and what happens to who falls behind."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from ams import events as module
from ams.catalogue import Change
from ams.events import BACKLOG, LISTENERS, PROGRESS_EVERY, Events, Overrun, operation_event
from ams.operations import Operation, OperationStatus
from regkit.errors import Unavailable

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def operation(id_: str = "a", **values: object) -> Operation:
    made = Operation(id_, "task", "x", NOW, NOW, OperationStatus.RUNNING, {}, {}, True, "")
    return replace(made, **values)  # type: ignore[arg-type]


def actions(subscription: module.Subscription) -> list[str]:
    found = []
    while (event := subscription.get(0)) is not None:
        found.append(event.metadata.get("action") or event.metadata["status"])
    return found


def test_only_what_was_asked_for_and_only_from_then_on():
    events = Events(lambda: NOW)
    events.option("registry.mode")
    everything, lifecycle = events.subscribe(), events.subscribe(("lifecycle",))
    one = events.subscribe(("operation",), operation="b")
    events.operation(operation("a"))
    events.operation(operation("b"))
    events.change(Change("version-published", "x" * 20, "candy", 3))
    assert actions(everything) == ["Running", "Running", "version-published"]
    assert actions(lifecycle) == ["version-published"]
    assert actions(one) == ["Running"]
    one.close()
    events.operation(operation("b", status=OperationStatus.SUCCESS))
    assert actions(one) == []
    assert actions(everything) == ["Success"]


def test_the_shapes_of_the_public_sdk():
    events = Events(lambda: NOW)
    with events.subscribe() as subscription:
        events.operation(operation())
        events.change(Change("version-published", "x" * 20, "candy", 3))
        shown = [json.loads(event.text) for _ in range(2) if (event := subscription.get(0))]
    assert [sorted(event) for event in shown] == [["metadata", "timestamp", "type"]] * 2
    assert [event["type"] for event in shown] == ["operation", "lifecycle"]
    assert shown[0]["metadata"] == operation().to_dict()
    assert shown[1]["metadata"] == {
        "action": "version-published",
        "source": f"/1.0/applications/{'x' * 20}",
        "context": {"name": "candy", "version": 3},
    }
    assert {datetime.fromisoformat(event["timestamp"]) for event in shown} == {NOW}


def test_what_the_parts_of_the_service_tell():
    events = Events(lambda: NOW)
    with events.subscribe() as subscription:
        events.change(Change("application-deleted", "x" * 20, "candy"))
        events.option("core.trust_password")
        events.synced("")
        events.synced("the registry can't be reached")
        events.lifecycle("certificate-added", "/1.0/certificates/ab")
        told = [event.metadata for _ in range(5) if (event := subscription.get(0))]
    assert [(item["action"], item["source"], item["context"]) for item in told] == [
        ("application-deleted", f"/1.0/applications/{'x' * 20}", {"name": "candy"}),
        ("config-updated", "/1.0/config", {"name": "core.trust_password"}),
        ("registry-synced", "/1.0/registry", {}),
        ("registry-sync-failed", "/1.0/registry", {"error": "the registry can't be reached"}),
        ("certificate-added", "/1.0/certificates/ab", {}),
    ]


def test_progress_is_told_seldom_everything_else_at_once():
    clock = Clock()
    events = Events(lambda: NOW, clock)
    subscription = events.subscribe()
    for done in range(10):
        events.operation(operation(metadata={"done": done}))
    clock.now += PROGRESS_EVERY
    events.operation(operation(metadata={"done": 10}))
    events.operation(operation(metadata={"done": 11}, resources={"applications": ["x"]}))
    events.operation(operation(status=OperationStatus.CANCELLING))
    events.operation(operation("other"))
    events.operation(operation(status=OperationStatus.CANCELLED, metadata={"done": 12}))
    told = [event.metadata for _ in range(6) if (event := subscription.get(0))]
    assert [(item["id"], item["status_code"], item["metadata"].get("done")) for item in told] == [
        ("a", 103, 0),
        ("a", 103, 10),
        ("a", 103, 11),
        ("a", 104, None),
        ("other", 103, None),
        ("a", 401, 12),
    ]
    assert subscription.get(0) is None


def test_who_falls_behind_is_told_so_and_nobody_waits_for_it():
    events = Events(lambda: NOW)
    slow, quick = events.subscribe(), events.subscribe()
    heard = 0
    for _ in range(BACKLOG + 1):
        events.option("registry.mode")
        heard += quick.get(0) is not None
    assert heard == BACKLOG + 1
    with pytest.raises(Overrun):
        slow.get(0)
    for _ in range(10):  # nothing more is kept for it
        events.option("registry.mode")
    assert slow._queue.qsize() == BACKLOG
    assert quick.get(0) is not None


def test_closing_wakes_who_waits():
    events = Events()
    subscription = events.subscribe()
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(subscription.get(30)))
    waiting.start()
    subscription.close()
    subscription.close()
    waiting.join(20)
    assert got == [None]
    events.option("registry.mode")
    assert subscription.get(0) is None


def test_there_is_a_limit_to_listeners():
    events = Events()
    subscriptions = [events.subscribe() for _ in range(LISTENERS)]
    with pytest.raises(Unavailable, match="try again later"):
        events.subscribe()
    subscriptions[0].close()
    events.subscribe()


def test_an_event_is_written_once_however_many_listen():
    events = Events(lambda: NOW)
    subscriptions = [events.subscribe() for _ in range(5)]
    events.option("registry.mode")
    texts = [event.text for s in subscriptions if (event := s.get(0))]
    assert len({id(text) for text in texts}) == 1


def test_nobody_listens_nothing_is_made():
    events = Events(clock=lambda: pytest.fail("an event was made"))
    events.operation(operation())
    events.option("registry.mode")


def test_an_operation_as_it_is():
    assert operation_event(operation(), NOW).metadata["status_code"] == 103
