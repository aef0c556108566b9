"""Answers that name an operation: work that goes on, or that was quick and is done already.

The reference answers every change with an operation. What takes milliseconds is done before the
answer here, so that a refusal is an HTTP error; its operation is finished when it is named, and a
client that waits for it has nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response

from ams.operations import Operation, Work
from ams.web.access import service
from regkit import rest

RECORDING = 5
"""Seconds for noting the end of an operation that does nothing."""

Resources = Mapping[str, Sequence[str]]


def started(
    description: str, work: Work, resources: Resources | None = None, *, may_cancel: bool = True
) -> Response:
    """Start `work` and answer 202 with its operation."""
    return answer(
        service().operations.start(description, work, resources=resources, may_cancel=may_cancel)
    )


def done(
    description: str, resources: Resources | None = None, metadata: Mapping[str, Any] | None = None
) -> Response:
    """Answer 202 with an operation that is finished already, since its work was done before."""
    operations = service().operations
    operation = operations.start(
        description, _nothing, resources=resources, metadata=metadata, may_cancel=False
    )
    return answer(operations.wait(operation.id, RECORDING))


def answer(operation: Operation) -> Response:
    """Answer 202 with an operation as it stands."""
    return rest.operation(f"/1.0/operations/{operation.id}", operation.to_dict())


def _nothing(_task: object) -> None:
    return None
