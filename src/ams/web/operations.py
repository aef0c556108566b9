"""`/1.0/operations` and `/1.0/tasks`: look at operations, wait for them, follow them, cancel."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

from flask import Response

from ams.events import Event, operation_event
from ams.operations import OperationStatus
from ams.web import documents, inputs, shapes, websocket
from ams.web.access import blueprint as new_blueprint
from ams.web.access import caller, service
from ams.web.contract import RECURSION, Parameter, Sync, Websocket, promises
from regkit import logs, rest, serving

log = logs.get("ams.operations")

blueprint = new_blueprint("operations")

LONGEST_WAIT = timedelta(minutes=5)
"""A client that wants to wait longer asks again."""
STEP = 1.0
"""Seconds after which a wait looks whether the service is being stopped."""


@blueprint.get("/operations")
@promises(
    Sync(dict[str, list[documents.Operation]] | list[documents.Url]), parameters=(RECURSION,)
)
def list_operations() -> Response:
    """List operations: whole and by status with `recursion=1`, as URLs without.

    Those that have ended are kept for a day.
    """
    recursive = inputs.flag("recursion")
    found = service().operations.list()
    if not recursive:
        return rest.sync([f"/1.0/operations/{item.id}" for item in found])
    by_status: dict[str, list[object]] = {}
    for item in found:
        by_status.setdefault(str(item.status).lower(), []).append(item.to_dict())
    return rest.sync(by_status)


@blueprint.get("/operations/<operation_id>")
@promises(Sync(documents.Operation), faults=(404,))
def show(operation_id: str) -> Response:
    """Return one operation."""
    return rest.sync(service().operations.get(operation_id).to_dict())


@blueprint.get("/operations/<operation_id>/wait")
@promises(
    Sync(documents.Operation),
    parameters=(
        Parameter(
            "timeout",
            "Seconds, or a duration such as `1m30s`; five minutes at most, as with none or -1.",
        ),
    ),
    faults=(404,),
)
def wait(operation_id: str) -> Response:
    """Return the operation when it has ended, or as it is after `timeout`."""
    deadline = time.monotonic() + inputs.wait_time(LONGEST_WAIT).total_seconds()
    operation = service().operations.get(operation_id)
    while not operation.status.final and not serving.stopping():
        left = deadline - time.monotonic()
        if left <= 0:
            break
        operation = service().operations.wait(operation_id, min(left, STEP))
    return rest.sync(operation.to_dict())


@websocket.route(blueprint, "/operations/<operation_id>/websocket")
@promises(
    Websocket(),
    parameters=(Parameter("secret", "Of no meaning here: who is trusted may listen."),),
    faults=(404,),
)
def follow(operation_id: str) -> Response:
    """Follow an operation over a websocket: as it is, each change of it, until its end."""
    operations, events = service().operations, service().events
    operations.get(operation_id)

    def current() -> Event:
        return operation_event(operations.get(operation_id), datetime.now(timezone.utc))

    return websocket.Stream(
        lambda: events.subscribe(("operation",), operation=operation_id),
        first=current,
        last=lambda event: event.metadata["status_code"] >= OperationStatus.SUCCESS,
    )


@blueprint.delete("/operations/<operation_id>")
@promises(Sync(dict[str, Any]), faults=(404, 409))
def cancel(operation_id: str) -> Response:
    """Ask a running operation to stop."""
    operation = service().operations.cancel(operation_id)
    log.info("operation-cancelled", id=operation.id, by=caller().name)
    return rest.sync({})


@blueprint.get("/tasks")
@promises(Sync(list[documents.Task]), parameters=(RECURSION,))
def list_tasks() -> Response:
    """List the operations under way as tasks, which is what the reference schedules."""
    inputs.flag("recursion")  # they have no URL of their own
    return rest.sync([shapes.task(item) for item in service().operations.list(final=False)])
