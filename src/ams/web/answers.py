"""Answers that more than one view gives: operations, long lists, manifests.

The reference answers every change with an operation. What takes milliseconds is done before the
answer here, so that a refusal is an HTTP error; its operation is finished when it is named, and a
client that waits for it has nothing to wait for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from flask import Response, request

from ams.operations import Operation, Work
from ams.web.access import service
from regkit import rest

RECORDING = 5
"""Seconds for noting the end of an operation that does nothing."""

YAML = "application/yaml"
"""The media type of RFC 9512."""

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


def collection(items: Iterable[Mapping[str, Any]], total: int) -> Response:
    """Answer 200 with a list; each item is text as soon as it is there, so that none is kept."""
    parts = ",".join(json.dumps(item) for item in items)
    response = rest.sync(total_size=total)
    envelope = dict(response.get_json())
    envelope.pop("metadata")
    response.set_data(f'{json.dumps(envelope)[:-1]}, "metadata": [{parts}]}}\n')
    return response


def manifest_of(manifest: Mapping[str, Any]) -> Response:
    """Answer 200 with a manifest: as YAML, or in an envelope if only JSON is accepted."""
    accepted = request.accept_mimetypes.best_match((YAML, "application/json"), default=YAML)
    if accepted == YAML:
        text = yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True)
        return Response(text, mimetype=YAML)
    return rest.sync(manifest)


def _nothing(_task: object) -> None:
    return None
