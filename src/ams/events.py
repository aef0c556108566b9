"""What happens in the service, told to whoever listens: operations and lifecycle events.

The shapes are those of the reference's API (the public SDK's `api.Event` and
`api.LifecycleEvent`). A listener that falls behind is dropped rather than waited for: nothing here
ever blocks the work that is told of. How events travel is `ams.web`'s business.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal, get_args

from ams.catalogue import Change
from ams.operations import Operation, OperationStatus
from regkit.errors import Unavailable

EventType = Literal["operation", "lifecycle"]
TYPES: tuple[EventType, ...] = get_args(EventType)

BACKLOG = 1000
"""Events that a listener may be behind before it is dropped."""
LISTENERS = 1000
"""The most listeners at a time: each costs a connection and a little of every event."""
PROGRESS_EVERY = 0.2
"""Seconds between two events of an operation that differ in nothing but its progress."""


class Overrun(Exception):  # noqa: N818 - an outcome, not a fault
    """The listener fell behind and has missed events."""


@dataclass(frozen=True)
class Event:
    """One event; `metadata` is JSON data without secrets."""

    type: EventType
    at: datetime
    metadata: dict[str, Any]

    @cached_property
    def text(self) -> str:
        """The event as it is sent; made once, however many listen."""
        return json.dumps(
            {"type": self.type, "timestamp": self.at.isoformat(), "metadata": self.metadata}
        )


class Subscription:
    """The events of some kind from now on. Close it, or use it as a context manager."""

    def __init__(
        self, wanted: Callable[[Event], bool], leave: Callable[[Subscription], None]
    ) -> None:
        self._wanted = wanted
        self._leave = leave
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._overrun = False
        self.closed = False

    def get(self, timeout: float) -> Event | None:
        """Return the next event; None after `timeout` seconds, or when it was closed.

        Raises Overrun as soon as one event was missed.
        """
        if self._overrun:
            raise Overrun
        if self.closed:
            return None
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Take no more events, and wake whoever waits for one; idempotent."""
        if not self.closed:
            self.closed = True
            self._leave(self)
            self._queue.put(None)

    def offer(self, event: Event) -> None:
        """Queue an event if it is wanted; one too many makes this subscription overrun."""
        if self._overrun or self.closed or not self._wanted(event):
            return
        if self._queue.qsize() >= BACKLOG:
            self._overrun = True
        else:
            self._queue.put(event)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Events:
    """Where the parts of the service tell what happens, and others listen."""

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._told: dict[str, tuple[OperationStatus, Any, float]] = {}

    def subscribe(
        self, types: Iterable[EventType] = TYPES, operation: str | None = None
    ) -> Subscription:
        """Listen to events of `types`, or only to those of the operation with this id.

        Raises Unavailable when too many listen already.
        """
        chosen = frozenset(types)

        def wanted(event: Event) -> bool:
            return event.type in chosen and (
                operation is None or event.metadata.get("id") == operation
            )

        with self._lock:
            if len(self._subscriptions) >= LISTENERS:
                raise Unavailable(f"{LISTENERS} listeners are connected already: try again later")
            subscription = Subscription(wanted, self._left)
            self._subscriptions.add(subscription)
        return subscription

    # What the parts of the service call

    def operation(self, operation: Operation) -> None:
        """Tell that an operation has changed; mere progress only so often (a listener)."""
        if self._is_news(operation):
            self._tell(lambda: operation_event(operation, self._clock()))

    def change(self, change: Change) -> None:
        """Tell of a change in the catalogue (a listener)."""
        context: dict[str, Any] = {"name": change.name}
        if change.number is not None:
            context["version"] = change.number
        self.lifecycle(change.event, f"/1.0/applications/{change.application_id}", **context)

    def option(self, name: str) -> None:
        """Tell that an option has changed, not to what: it may be a secret (a listener)."""
        self.lifecycle("config-updated", "/1.0/config", name=name)

    def synced(self, error: str) -> None:
        """Tell that a sync with the registry has ended, and with which error (a listener)."""
        if error:
            self.lifecycle("registry-sync-failed", "/1.0/registry", error=error)
        else:
            self.lifecycle("registry-synced", "/1.0/registry")

    def lifecycle(self, action: str, source: str, **context: Any) -> None:
        """Tell that `action` has happened to what has the URL `source`."""
        metadata = {"action": action, "source": source, "context": context}
        self._tell(lambda: Event("lifecycle", self._clock(), metadata))

    def _tell(self, make: Callable[[], Event]) -> None:
        with self._lock:
            subscriptions = list(self._subscriptions)
        if subscriptions:
            event = make()
            for subscription in subscriptions:
                subscription.offer(event)

    def _is_news(self, operation: Operation) -> bool:
        now = self._monotonic()
        with self._lock:
            if operation.status.final:
                self._told.pop(operation.id, None)
                return True
            status, resources, told = self._told.get(operation.id, (None, None, now))
            unchanged = (status, resources) == (operation.status, operation.resources)
            if unchanged and now - told < PROGRESS_EVERY:
                return False
            self._told[operation.id] = (operation.status, operation.resources, now)
        return True

    def _left(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)


def operation_event(operation: Operation, now: datetime) -> Event:
    """Return the event that shows an operation as it is."""
    return Event("operation", now, operation.to_dict())
