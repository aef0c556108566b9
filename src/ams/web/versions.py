"""`/1.0/applications/{id or name}/{version}`: export, publish, revoke, delete, manifest."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from flask import Response
from pydantic import BaseModel, ConfigDict

from ams.catalogue import rules
from ams.web import inputs, uploads
from ams.web.access import blueprint as new_blueprint
from ams.web.access import service, watched
from ams.web.answers import YAML, done, manifest_of
from ams.web.applications import OCTETS, Deletion, matching, url
from ams.web.contract import IF_MATCH, Async, Body, File, Sync, promises
from regkit.errors import NoSpace

blueprint = new_blueprint("versions")

CHUNK = 256 * 1024
"""Bytes per piece of a download: larger ones gained nothing over TLS."""


class Publication(BaseModel):
    """Whether the version is published."""

    model_config = ConfigDict(extra="forbid")
    published: bool


@blueprint.get("/applications/<id_or_name>/<int:number>")
@promises(File(OCTETS, headers=(uploads.FINGERPRINT, "Content-Disposition")), faults=(404, 507))
def export(id_or_name: str, number: int) -> Response:
    """Return the version as an archive that creates it again.

    The archive is made before it is sent, since its SHA-256 goes ahead of it in a header; it lies
    in a file without a name meanwhile.
    """
    found = service().catalogue.export(id_or_name, number)
    folder = uploads.folder(service())
    if found.content_size > shutil.disk_usage(folder).free:
        raise NoSpace(f"no space to pack {found.content_size} bytes: free some disk space")
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed when the answer is sent
    try:
        digest, size = hashlib.sha256(), 0
        for chunk in found.chunks:
            digest.update(chunk)
            size += file.write(chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    response = Response(watched(_chunks(file)), mimetype=OCTETS)
    response.call_on_close(file.close)
    response.content_length = size
    # Without quotes: the public SDK takes what follows the first dot for the extension.
    response.headers["Content-Disposition"] = f"inline;filename={found.filename}"
    response.headers[uploads.FINGERPRINT] = digest.hexdigest()
    return response


@blueprint.patch("/applications/<id_or_name>/<int:number>")
@promises(Async(), parameters=(IF_MATCH,), body=Body(Publication), faults=(404, 412, 413))
def publish(id_or_name: str, number: int) -> Response:
    """Publish the version, or revoke it."""
    body = inputs.json_body(Publication)
    catalogue = service().catalogue
    item = catalogue.get(id_or_name)
    matching()(item)
    if body.published:
        catalogue.publish(item.id, number)
    else:
        catalogue.revoke(item.id, number)
    verb = "Publishing" if body.published else "Revoking"
    return done(f"{verb} version {number} of {item.name}", {"applications": [url(item)]})


@blueprint.delete("/applications/<id_or_name>/<int:number>")
@promises(Async(), parameters=(IF_MATCH,), body=Body(Deletion), faults=(404, 409, 412, 413))
def delete(id_or_name: str, number: int) -> Response:
    """Delete the version; the last one can only go with its application."""
    body = inputs.json_body(Deletion)
    catalogue = service().catalogue
    item = catalogue.get(id_or_name)
    matching()(item)
    catalogue.delete_version(item.id, number, force=body.force)
    return done(f"Deleting version {number} of {item.name}", {"applications": [url(item)]})


@blueprint.get("/applications/<id_or_name>/<int:number>/manifest")
@promises(File(YAML), Sync(dict[str, Any]), faults=(404,))
def manifest(id_or_name: str, number: int) -> Response:
    """Return the manifest of the version, as it was packed.

    It is YAML, or an envelope for those who accept `application/json` only.
    """
    item = service().catalogue.get(id_or_name)
    return manifest_of(rules.find_version(item, number).manifest)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
