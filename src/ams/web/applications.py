"""`/1.0/applications` and `/1.0/applications/{id or name}`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from ams import packages
from ams.catalogue import FILTERS, Application, rules
from ams.operations import Task
from ams.packages import Package
from ams.web import documents, inputs, shapes, uploads
from ams.web.access import blueprint as new_blueprint
from ams.web.access import service
from ams.web.answers import YAML, collection, done, manifest_of, started
from ams.web.contract import (
    COUNT,
    FINGERPRINT,
    FLAG,
    IF_MATCH,
    IF_NONE_MATCH,
    RECURSION,
    Async,
    Body,
    File,
    Parameter,
    Sync,
    promises,
)
from ams.web.patches import ApplicationPatch
from regkit import rest
from regkit.blobs import BlobStore
from regkit.errors import Invalid, ServiceError

blueprint = new_blueprint("applications")

NOT_FILTERS = frozenset({"offset", "limit", "recursion"})
OCTETS = "application/octet-stream"
JSON = "application/json"
BATCH = 200
"""Applications that are read and written at once: others get their turn in between."""

T = TypeVar("T")

_BOOLEANS = frozenset({"published", "immutable", "inhibit-auto-updates", "vm"})
FILTER_PARAMETERS = tuple(
    Parameter(
        name.replace("-", "_"),
        "Only those that fit; `-` for `_` will do.",
        {"enum": ["true", "false"]} if name in _BOOLEANS else {"type": "string"},
    )
    for name in FILTERS
)


class Deletion(BaseModel):
    """Whether to delete what the registry owns too: it comes back with the next update."""

    model_config = ConfigDict(extra="forbid")
    force: bool = False


class BulkDeletion(Deletion):
    """Which applications to delete, by id or name."""

    ids: list[str] = Field(min_length=1, max_length=10_000)


class PreconditionFailed(ServiceError):  # noqa: N818 - the name of the status code
    """The object has changed since the caller looked at it."""

    status = 412


@blueprint.get("/applications")
@promises(
    Sync(list[documents.Application] | list[documents.Url], total=True),
    parameters=(
        RECURSION,
        Parameter("offset", "How many to leave out at the beginning.", COUNT),
        Parameter("limit", "How many to return at most.", COUNT),
        *FILTER_PARAMETERS,
    ),
)
def list_applications() -> Response:
    """List applications by name: whole with `recursion=1`, as URLs without."""
    filters = {
        name.replace("_", "-"): value
        for name, value in request.args.items()
        if name not in NOT_FILTERS
    }
    offset, limit = inputs.page()
    recursive = inputs.flag("recursion")
    found = service().catalogue.search(filters)
    shown = found[offset:] if limit is None else found[offset : offset + limit]
    if recursive:
        return collection(_whole(shown), len(found))
    return rest.sync([_url(id_) for id_ in shown], total_size=len(found))


@blueprint.post("/applications")
@promises(
    Async(),
    parameters=(
        Parameter("vm", "Whether it is for virtual machines.", FLAG),
        FINGERPRINT,
        Parameter(
            uploads.FIELDS,
            "A JSON object; of its keys only `vm` counts.",
            {"type": "string"},
            where="header",
        ),
    ),
    body=Body(package=True),
    faults=(413, 507),
)
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
@promises(Async(), parameters=(IF_MATCH,), body=Body(BulkDeletion), faults=(404, 412, 413))
def delete_several() -> Response:
    """Delete several applications; none when one of them can't be found.

    With If-Match each must have one of the ETags.
    """
    body = inputs.json_body(BulkDeletion)
    catalogue = service().catalogue
    items = list({item.id: item for item in map(catalogue.get, body.ids)}.values())
    unchanged = matching()
    for item in items:
        unchanged(item)

    def work(task: Task) -> None:
        for item in items:
            task.check()
            catalogue.delete(item.id, force=body.force, check=unchanged)

    resources = {"applications": [url(item) for item in items]}
    return started("Deleting applications", work, resources)


@blueprint.get("/applications/<id_or_name>")
@promises(
    Sync(documents.Application, headers=("ETag",)),
    parameters=(IF_NONE_MATCH,),
    faults=(404,),
    not_modified=True,
)
def show(id_or_name: str) -> Response:
    """Return one application; its ETag names this state of it."""
    document = shapes.application(service().catalogue.get(id_or_name))
    response = rest.sync(document)
    response.set_etag(_etag(document))
    response.make_conditional(request)
    return response


@blueprint.patch("/applications/<id_or_name>")
@promises(
    Async(),
    parameters=(IF_MATCH, FINGERPRINT),
    body=Body(ApplicationPatch, package=True),
    faults=(404, 409, 412, 413, 507),
)
def update(id_or_name: str) -> Response:
    """Add the package in the body as the next version, or change the fields in the body.

    An empty JSON object changes nothing: nothing here is rebuilt when an image changes.
    """
    item = service().catalogue.get(id_or_name)
    unchanged = matching()
    unchanged(item)
    rules.require_local(item.name, item.origin)
    if request.mimetype == OCTETS:
        return _update_package(item, unchanged)
    if request.mimetype == JSON:
        return _update_fields(item, unchanged)
    raise Invalid(f"send a package as {OCTETS}, or fields to change as {JSON}")


def _update_package(item: Application, unchanged: Callable[[Application], None]) -> Response:
    catalogue, blobs = service().catalogue, service().blobs
    upload = uploads.receive(uploads.folder(service()))

    def work(task: Task) -> None:
        def use(package: Package) -> None:
            catalogue.update(item.id, package, unchanged)

        _with_package(upload, blobs, task, use)

    return started(f"Updating application {item.name}", work, {"applications": [url(item)]})


def _update_fields(item: Application, unchanged: Callable[[Application], None]) -> Response:
    wanted = inputs.json_body(ApplicationPatch).wanted()
    after = service().catalogue.change(item.id, wanted, unchanged)
    metadata = {}
    if after.latest.number != item.latest.number:
        metadata = {"version": after.latest.number}
    description = f"Updating application {item.name}"
    return done(description, {"applications": [url(item)]}, metadata)


@blueprint.delete("/applications/<id_or_name>")
@promises(Async(), parameters=(IF_MATCH,), body=Body(Deletion), faults=(404, 412, 413))
def delete(id_or_name: str) -> Response:
    """Delete an application with all its versions."""
    body = inputs.json_body(Deletion)
    item = service().catalogue.get(id_or_name)
    service().catalogue.delete(item.id, force=body.force, check=matching())
    return done(f"Deleting application {item.name}", {"applications": [url(item)]})


@blueprint.get("/applications/<id_or_name>/manifest")
@promises(File(YAML), Sync(dict[str, Any]), faults=(404,))
def manifest(id_or_name: str) -> Response:
    """Return the manifest that describes it, with the fields that were set over the newest one.

    It is YAML, or an envelope for those who accept `application/json` only.
    """
    return manifest_of(service().catalogue.get(id_or_name).manifest)


def url(item: Application) -> str:
    """Return an application's URL."""
    return _url(item.id)


def matching() -> Callable[[Application], None]:
    """Return a check that an application is what the request's If-Match says.

    It may be asked after the request, too, and raises PreconditionFailed.
    """
    wanted = request.if_match

    def check(item: Application) -> None:
        if wanted and not wanted.contains(_etag(shapes.application(item))):
            raise PreconditionFailed(
                f"application {item.name} has changed since you looked at it: look again"
            )

    return check


def _url(id_: str) -> str:
    return f"/1.0/applications/{id_}"


def _whole(ids: Sequence[str]) -> Iterator[documents.Application]:
    catalogue = service().catalogue
    for start in range(0, len(ids), BATCH):
        yield from map(shapes.application, catalogue.load(ids[start : start + BATCH]))
        time.sleep(0)


def _etag(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _require_octets() -> None:
    if request.mimetype != OCTETS:
        raise Invalid(f"send the package as {OCTETS}")


def _with_package(
    upload: uploads.Upload, blobs: BlobStore, task: Task, use: Callable[[Package], T]
) -> T:
    """Read the uploaded package and hand it to `use`; the upload's space is given back."""

    def progress(staged: int) -> None:
        task.progress(progress={"step": "Unpacking", "done": staged})

    with upload, packages.read(upload.file, blobs, progress=progress) as package:
        return use(package)
