"""`/1.0/applications` and `/1.0/applications/{id or name}`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from ams import packages
from ams.catalogue import Application, rules
from ams.operations import Task
from ams.packages import Package
from ams.web import inputs, shapes, uploads
from ams.web.access import blueprint as new_blueprint
from ams.web.access import service
from ams.web.answers import done, started
from regkit import rest
from regkit.blobs import BlobStore
from regkit.errors import Invalid, ServiceError

blueprint = new_blueprint("applications")

NOT_FILTERS = frozenset({"offset", "limit", "recursion"})
OCTETS = "application/octet-stream"

T = TypeVar("T")


class Deletion(BaseModel):
    """The body of DELETE."""

    model_config = ConfigDict(extra="forbid")
    force: bool = False


class BulkDeletion(Deletion):
    """The body of DELETE on the collection: ids or names."""

    ids: list[str] = Field(min_length=1, max_length=10_000)


class PreconditionFailed(ServiceError):  # noqa: N818 - the name of the status code
    """The object has changed since the caller looked at it."""

    status = 412


@blueprint.get("/applications")
def list_applications() -> Response:
    """List applications by name: whole with `recursion=1`, as URLs without."""
    filters = {
        name.replace("_", "-"): value
        for name, value in request.args.items()
        if name not in NOT_FILTERS
    }
    offset, limit = inputs.page()
    recursive = inputs.flag("recursion")
    found = service().catalogue.list(filters)
    shown = found[offset:] if limit is None else found[offset : offset + limit]
    metadata = [shapes.application(item) if recursive else url(item) for item in shown]
    return rest.sync(metadata, total_size=len(found))


@blueprint.post("/applications")
def create() -> Response:
    """Make an application of the package in the body."""
    _require_octets()
    vm = inputs.flag("vm", default=uploads.request_fields().get("vm") is True)
    catalogue, blobs = service().catalogue, service().blobs
    upload = uploads.receive(uploads.folder(service()))

    def work(task: Task) -> None:
        item = _with_package(upload, blobs, task, lambda package: catalogue.create(package, vm=vm))
        task.resources(applications=[url(item)])

    return started("Creating an application", work)


@blueprint.delete("/applications")
def delete_several() -> Response:
    """Delete several applications; none when one of them can't be found."""
    body = inputs.json_body(BulkDeletion)
    catalogue = service().catalogue
    items = list({item.id: item for item in map(catalogue.get, body.ids)}.values())

    def work(task: Task) -> None:
        for item in items:
            task.check()
            catalogue.delete(item.id, force=body.force)

    resources = {"applications": [url(item) for item in items]}
    return started("Deleting applications", work, resources)


@blueprint.get("/applications/<id_or_name>")
def show(id_or_name: str) -> Response:
    """Return one application; its ETag names this state of it."""
    document = shapes.application(service().catalogue.get(id_or_name))
    response = rest.sync(document)
    response.set_etag(_etag(document))
    response.make_conditional(request)
    return response


@blueprint.patch("/applications/<id_or_name>")
def update(id_or_name: str) -> Response:
    """Add the package in the body as the next version."""
    catalogue, blobs = service().catalogue, service().blobs
    item = catalogue.get(id_or_name)
    require_match(item)
    rules.require_local(item.name, item.origin)
    _require_octets()
    upload = uploads.receive(uploads.folder(service()))

    def work(task: Task) -> None:
        _with_package(upload, blobs, task, lambda package: catalogue.update(item.id, package))

    resources = {"applications": [url(item)]}
    return started(f"Updating application {item.name}", work, resources)


@blueprint.delete("/applications/<id_or_name>")
def delete(id_or_name: str) -> Response:
    """Delete an application with all its versions."""
    body = inputs.json_body(Deletion)
    item = service().catalogue.get(id_or_name)
    require_match(item)
    service().catalogue.delete(item.id, force=body.force)
    return done(f"Deleting application {item.name}", {"applications": [url(item)]})


@blueprint.get("/applications/<id_or_name>/manifest")
def manifest(id_or_name: str) -> Response:
    """Return the manifest of the newest version."""
    return rest.sync(service().catalogue.get(id_or_name).latest.manifest)


def url(item: Application) -> str:
    """Return an application's URL."""
    return f"/1.0/applications/{item.id}"


def require_match(item: Application) -> None:
    """Obey the request's If-Match. Raises PreconditionFailed."""
    if request.if_match and not request.if_match.contains(_etag(shapes.application(item))):
        raise PreconditionFailed(
            f"application {item.name} has changed since you looked at it: look again"
        )


def _etag(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _require_octets() -> None:
    if request.mimetype != OCTETS:
        raise Invalid(
            f"send the package as {OCTETS}; single fields can't be changed here: change "
            "manifest.yaml and send the package as a new version"
        )


def _with_package(
    upload: uploads.Upload, blobs: BlobStore, task: Task, use: Callable[[Package], T]
) -> T:
    """Read the uploaded package and hand it to `use`; the upload's space is given back."""

    def progress(staged: int) -> None:
        task.progress(progress={"step": "Unpacking", "done": staged})

    with upload, packages.read(upload.file, blobs, progress=progress) as package:
        return use(package)
