"""Long work that a caller may watch, wait for and cancel; kept in the database.

The record and its codes are those of the reference's API (as LXD's). What an operation does is
given as a function; where it runs (a greenlet, a thread) is up to the injected `spawn`. Cancelling
is cooperative: the work is stopped at its next report of progress.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from enum import IntEnum
from typing import Any

import sqlalchemy as sa

from ams import schema
from regkit import logs
from regkit.database import Database
from regkit.errors import Conflict, NotFound, ServiceError

log = logs.get("ams.operations")

KEEP = timedelta(hours=24)
"""How long the record of a finished operation is kept."""
SAVE_EVERY = 1.0
"""Seconds between writes of progress to the database; readers in this process see all of it."""
LOOK_EVERY = 0.5
"""Seconds between looks at an operation of another unit."""
INTERRUPTED = "interrupted by a restart of the service: start it again"


class OperationStatus(IntEnum):
    """`status_code` of an operation (LXD's `shared/api/status_code.go`)."""

    CREATED = 100
    STARTED = 101
    STOPPED = 102
    RUNNING = 103
    CANCELLING = 104
    PENDING = 105
    STARTING = 106
    STOPPING = 107
    ABORTING = 108
    FREEZING = 109
    FROZEN = 110
    THAWED = 111
    ERROR = 112
    SUCCESS = 200
    FAILURE = 400
    CANCELLED = 401

    def __str__(self) -> str:
        return "Operation created" if self is OperationStatus.CREATED else self.name.capitalize()

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self >= OperationStatus.SUCCESS


class Cancelled(Exception):  # noqa: N818 - an outcome, not an error
    """Raised inside an operation's work at its next report of progress."""


@dataclass(frozen=True)
class Operation:
    """The record of one operation. Times are aware, UTC."""

    id: str
    kind: str
    """Its `class`: `task`."""
    description: str
    created: datetime
    updated: datetime
    status: OperationStatus
    resources: Mapping[str, Sequence[str]]
    """URLs of what it works on, by kind: {"applications": ["/1.0/applications/…"]}."""
    metadata: Mapping[str, Any]
    """Progress and results, as the work reports them."""
    may_cancel: bool
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return the record in the API's shape."""
        return {
            "id": self.id,
            "class": self.kind,
            "description": self.description,
            "created_at": self.created.isoformat(),
            "updated_at": self.updated.isoformat(),
            "status": str(self.status),
            "status_code": int(self.status),
            "resources": {kind: list(urls) for kind, urls in self.resources.items()},
            "metadata": dict(self.metadata),
            "may_cancel": self.may_cancel,
            "err": self.error,
            "server_address": "",
        }


Work = Callable[["Task"], Mapping[str, Any] | None]
"""The work of an operation; what it returns is added to the operation's metadata."""
Spawn = Callable[[Callable[[], None]], object]
"""Runs a function beside the caller, and returns at once."""
Listener = Callable[[Operation], None]


def in_thread(function: Callable[[], None]) -> object:
    """Run `function` in a thread (under gevent's patching: in a greenlet)."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class Task:
    """What the work sees of its operation."""

    def __init__(self, operations: Operations, id_: str) -> None:
        self._operations = operations
        self.id = id_

    def progress(self, **metadata: Any) -> None:
        """Report progress: JSON values that are merged into the metadata.

        Raises Cancelled when the operation was cancelled meanwhile.
        """
        self.check()
        self._operations._report(self.id, metadata)

    def check(self) -> None:
        """Raise Cancelled when the operation was cancelled meanwhile."""
        if self._operations._live[self.id].cancelled:
            raise Cancelled

    def resources(self, **resources: Sequence[str]) -> None:
        """Name what the work has made, once it is known."""
        self._operations._add_resources(self.id, resources)


class _Live:
    """An operation of this process that hasn't ended."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.cancelled = False
        self.saved = time.monotonic()
        self.done = threading.Event()


class Operations:
    """All operations of the service."""

    def __init__(
        self,
        database: Database,
        spawn: Spawn = in_thread,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        unit: str = "",
    ) -> None:
        """`unit` tells this service from others on the same database."""
        self._unit = unit
        self._database = database
        self._spawn = spawn
        self._clock = clock
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the record at each change of an operation."""
        self._listeners.append(listener)

    def start(
        self,
        description: str,
        work: Work,
        *,
        kind: str = "task",
        resources: Mapping[str, Sequence[str]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        may_cancel: bool = True,
    ) -> Operation:
        """Record an operation and let `work` run; returns its record as created.

        A ServiceError of the work becomes the operation's error; any other error is a fault of
        ours, is logged and told as `internal error`.
        """
        now = self._clock()
        operation = Operation(
            id=str(uuid.uuid4()),
            kind=kind,
            description=description,
            created=now,
            updated=now,
            status=OperationStatus.CREATED,
            resources=dict(resources or {}),
            metadata=dict(metadata or {}),
            may_cancel=may_cancel,
            error="",
        )
        with self._database.write() as connection:
            connection.execute(
                schema.operation.insert().values(unit=self._unit, **_to_row(operation))
            )
        self._live[operation.id] = _Live(operation)
        self._tell(operation)
        self._spawn(lambda: self._run(operation.id, work))
        return operation

    def get(self, id_: str) -> Operation:
        """Return one operation. Raises NotFound."""
        if live := self._live.get(id_):
            return live.operation
        with self._database.read() as connection:
            row = connection.execute(
                schema.operation.select().where(schema.operation.c.id == id_)
            ).first()
        if row is None:
            raise NotFound(f"there is no operation {id_[:80]!r}: finished ones are kept a day")
        return _from_row(row._mapping)

    def list(self, *, final: bool | None = None) -> list[Operation]:
        """Return all operations, oldest first; or those that have ended, or that haven't."""
        table = schema.operation
        with self._database.read() as connection:
            rows = connection.execute(table.select().order_by(table.c.created, table.c.id)).all()
        found = [_from_row(row._mapping) for row in rows]
        current = [live.operation if (live := self._live.get(o.id)) else o for o in found]
        return [o for o in current if final is None or o.status.final is final]

    def wait(self, id_: str, timeout: float | None = None) -> Operation:
        """Wait at most `timeout` seconds for the end; returns the record as it is then."""
        if live := self._live.get(id_):
            live.done.wait(timeout)
            return self.get(id_)
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not (found := self.get(id_)).status.final:  # another unit's
            left = until - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, LOOK_EVERY))
        return found

    def cancel(self, id_: str) -> Operation:
        """Ask an operation to stop. Raises NotFound, Conflict when it can't be cancelled."""
        operation = self.get(id_)
        live = self._live.get(id_)
        if live is None and not operation.status.final:
            raise Conflict("the operation runs on another unit of this service: cancel it there")
        if operation.status.final or live is None:
            raise Conflict(f"the operation has ended already: {str(operation.status).lower()}")
        if not operation.may_cancel:
            raise Conflict("this operation can't be cancelled: wait for its end")
        live.cancelled = True
        return self._change(live, status=OperationStatus.CANCELLING)

    def recover(self) -> int:
        """Fail what a former process of this unit has left running; returns how many.

        Call it at start-up.
        """
        table = schema.operation
        with self._database.write() as connection:
            return connection.execute(
                table.update()
                .where(table.c.status_code < OperationStatus.SUCCESS, table.c.unit == self._unit)
                .values(
                    status_code=int(OperationStatus.FAILURE),
                    error=INTERRUPTED,
                    updated=self._clock(),
                )
            ).rowcount

    def prune(self, keep: timedelta = KEEP) -> int:
        """Forget operations that ended longer than `keep` ago; returns how many.

        So long without a word, those of other units have ended too, with their unit.
        """
        table = schema.operation
        condition = sa.and_(
            sa.or_(table.c.status_code >= OperationStatus.SUCCESS, table.c.unit != self._unit),
            table.c.updated < self._clock() - keep,
        )
        with self._database.read() as connection:
            if connection.execute(sa.select(table.c.id).where(condition).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            return connection.execute(table.delete().where(condition)).rowcount

    def _run(self, id_: str, work: Work) -> None:
        live = self._live[id_]
        status, error, result = OperationStatus.SUCCESS, "", None
        try:
            if live.cancelled:
                raise Cancelled
            self._change(live, status=OperationStatus.RUNNING)
            result = work(Task(self, id_))
        except Cancelled:
            status, error = OperationStatus.CANCELLED, "the operation was cancelled"
        except ServiceError as fault:
            status, error = OperationStatus.FAILURE, str(fault)
        except Exception:
            log.exception("operation-failed", id=id_, description=live.operation.description)
            status, error = (
                OperationStatus.FAILURE,
                "internal error: the service's log has the details",
            )
        try:
            metadata = {**live.operation.metadata, **(result or {})}
            self._change(live, status=status, error=error, metadata=metadata)
        finally:
            self._live.pop(id_, None)
            live.done.set()

    def _report(self, id_: str, metadata: Mapping[str, Any]) -> None:
        live = self._live[id_]
        save = time.monotonic() - live.saved >= SAVE_EVERY
        self._change(live, save=save, metadata={**live.operation.metadata, **metadata})

    def _add_resources(self, id_: str, resources: Mapping[str, Sequence[str]]) -> None:
        live = self._live[id_]
        self._change(live, resources={**live.operation.resources, **resources})

    def _change(self, live: _Live, *, save: bool = True, **values: Any) -> Operation:
        with self._lock:
            live.operation = replace(live.operation, updated=self._clock(), **values)
            operation = live.operation
        if save:
            live.saved = time.monotonic()
            table = schema.operation
            with self._database.write() as connection:
                connection.execute(
                    table.update().where(table.c.id == operation.id).values(_to_row(operation))
                )
        self._tell(operation)
        return operation

    def _tell(self, operation: Operation) -> None:
        for listener in list(self._listeners):
            listener(operation)


def _to_row(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "class": operation.kind,
        "description": operation.description,
        "created": operation.created,
        "updated": operation.updated,
        "status_code": int(operation.status),
        "resources": {kind: list(urls) for kind, urls in operation.resources.items()},
        "metadata": dict(operation.metadata),
        "may_cancel": operation.may_cancel,
        "error": operation.error,
    }


def _from_row(row: Any) -> Operation:
    return Operation(
        id=row["id"],
        kind=row["class"],
        description=row["description"],
        created=row["created"],
        updated=row["updated"],
        status=OperationStatus(row["status_code"]),
        resources=row["resources"],
        metadata=row["metadata"],
        may_cancel=row["may_cancel"],
        error=row["error"],
    )
