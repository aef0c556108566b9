"""`/1.0/operations`: look at operations, wait for them, cancel them."""

from __future__ import annotations

import time
from datetime import timedelta

from flask import Response

from ams.web import inputs
from ams.web.access import blueprint as new_blueprint
from ams.web.access import caller, service
from regkit import logs, rest, serving

log = logs.get("ams.operations")

blueprint = new_blueprint("operations")

LONGEST_WAIT = timedelta(minutes=5)
"""A client that wants to wait longer asks again."""
STEP = 1.0
"""Seconds after which a wait looks whether the service is being stopped."""


@blueprint.get("/operations")
def list_operations() -> Response:
    """List operations by status: whole with `recursion=1`, as URLs without."""
    found = service().operations.list()
    if not inputs.flag("recursion"):
        return rest.sync([f"/1.0/operations/{item.id}" for item in found])
    by_status: dict[str, list[object]] = {}
    for item in found:
        by_status.setdefault(str(item.status).lower(), []).append(item.to_dict())
    return rest.sync(by_status)


@blueprint.get("/operations/<operation_id>")
def show(operation_id: str) -> Response:
    """Return one operation."""
    return rest.sync(service().operations.get(operation_id).to_dict())


@blueprint.get("/operations/<operation_id>/wait")
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


@blueprint.delete("/operations/<operation_id>")
def cancel(operation_id: str) -> Response:
    """Ask a running operation to stop."""
    operation = service().operations.cancel(operation_id)
    log.info("operation-cancelled", id=operation.id, by=caller().name)
    return rest.sync({})
