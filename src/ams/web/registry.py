"""`/1.0/registry`: see and drive the synchronisation with the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response
from pydantic import BaseModel, ConfigDict

from ams.operations import Cancelled, Task
from ams.sync import runner
from ams.sync.report import Report
from ams.web import documents, inputs, shapes
from ams.web.access import blueprint as new_blueprint
from ams.web.access import caller, service
from ams.web.answers import started
from ams.web.contract import Async, Body, Sync, promises
from regkit import logs, rest
from regkit.errors import NotFound, ServiceError

log = logs.get("ams.registry")

blueprint = new_blueprint("registry")

URL = "/1.0/registry/applications"


class Synchronisation(BaseModel):
    """How to synchronise.

    `dry_run` only says what would be done; `allow_deletions` carries out what is held.
    """

    model_config = ConfigDict(extra="forbid")
    dry_run: bool = False
    allow_deletions: bool = False


@blueprint.get("/registry")
@promises(Sync(documents.RegistryStatus))
def status() -> Response:
    """Say how the synchronisation stands; contacts nobody."""
    return rest.sync(service().sync.status())


@blueprint.post("/registry/sync")
@promises(Async(), body=Body(Synchronisation), faults=(413,))
def sync() -> Response:
    """Synchronise now; the operation's metadata is the report."""
    body = inputs.json_body(Synchronisation)
    engine = service().sync

    def work(follow: _Follow) -> Report:
        return engine.sync_now(
            body.dry_run, body.allow_deletions, follow.progress, follow.cancelled
        )

    return _started("Synchronising with the registry", work)


@blueprint.get("/registry/applications")
@promises(Sync(list[documents.RegistryApplication]))
def list_applications() -> Response:
    """List what the registry held at the last look."""
    here = {item.name: item for item in service().catalogue.list()}
    return rest.sync(
        [shapes.registry_application(row, here.get(row["name"])) for row in service().sync.list()]
    )


@blueprint.post("/registry/applications/<id_or_name>/push")
@promises(Async(), faults=(404,))
def push(id_or_name: str) -> Response:
    """Push an application's published versions."""
    item = service().catalogue.get(id_or_name)
    engine = service().sync

    def work(follow: _Follow) -> Report:
        return engine.push(item.id, follow.progress, follow.cancelled)

    resources = {"applications": [f"/1.0/applications/{item.id}"]}
    return _started(f"Pushing application {item.name}", work, resources)


@blueprint.post("/registry/applications/<id_or_name>/pull")
@promises(Async())
def pull(id_or_name: str) -> Response:
    """Pull an application's versions for this architecture."""
    name = _name(id_or_name)
    engine = service().sync

    def work(follow: _Follow) -> Report:
        return engine.pull(name, follow.progress, follow.cancelled)

    return _started(f"Pulling application {name}", work)


@blueprint.delete("/registry/applications/<id_or_name>")
@promises(Async())
def delete(id_or_name: str) -> Response:
    """Delete an application from the registry, for all who pull it."""
    name = _name(id_or_name)
    engine = service().sync
    log.info("registry-delete", name=name, by=caller().name)

    def work(_task: Task) -> None:
        engine.delete(name)

    return started(f"Deleting application {name} from the registry", work, may_cancel=False)


class _Follow:
    """What the engine is told of the operation that waits for it."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def cancelled(self) -> bool:
        try:
            self._task.check()
        except Cancelled:
            return True
        return False

    def progress(self, step: str, done: int, total: int) -> None:
        try:
            self._task.progress(progress={"step": step, "done": done, "total": total})
        except Cancelled:
            return  # the engine asks `cancelled` itself, where it is safe to stop


def _started(
    description: str,
    work: Callable[[_Follow], Report],
    resources: Mapping[str, list[str]] | None = None,
) -> Response:
    def followed(task: Task) -> dict[str, Any]:
        try:
            return work(_Follow(task)).to_dict()
        except runner.Cancelled:
            raise Cancelled from None
        except ServiceError:
            task.check()  # what fails after it was cancelled was cancelled
            raise

    return started(description, followed, resources)


def _name(id_or_name: str) -> str:
    """Return the name of an application here, or the text itself as a name in the registry."""
    try:
        return service().catalogue.get(id_or_name).name
    except NotFound:
        return id_or_name
