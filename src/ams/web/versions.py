"""`/1.0/applications/{id or name}/{version}`: export, publish, revoke, delete, manifest."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from flask import Response
from pydantic import BaseModel, ConfigDict

from ams.catalogue import rules
from ams.web import inputs, uploads
from ams.web.access import blueprint as new_blueprint
from ams.web.access import service, watched
from ams.web.answers import done
from ams.web.applications import Deletion, require_match, url
from regkit import rest
from regkit.errors import NoSpace

blueprint = new_blueprint("versions")

CHUNK = 256 * 1024
"""Bytes per piece of a download: larger ones gained nothing over TLS."""


class Publication(BaseModel):
    """The body of PATCH."""

    model_config = ConfigDict(extra="forbid")
    published: bool


@blueprint.get("/applications/<id_or_name>/<int:number>")
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
    response = Response(watched(_chunks(file)), mimetype="application/octet-stream")
    response.call_on_close(file.close)
    response.content_length = size
    # Without quotes: the public SDK takes what follows the first dot for the extension.
    response.headers["Content-Disposition"] = f"inline;filename={found.filename}"
    response.headers[uploads.FINGERPRINT] = digest.hexdigest()
    return response


@blueprint.patch("/applications/<id_or_name>/<int:number>")
def publish(id_or_name: str, number: int) -> Response:
    """Publish the version, or revoke it."""
    body = inputs.json_body(Publication)
    catalogue = service().catalogue
    item = catalogue.get(id_or_name)
    require_match(item)
    if body.published:
        catalogue.publish(item.id, number)
    else:
        catalogue.revoke(item.id, number)
    verb = "Publishing" if body.published else "Revoking"
    return done(f"{verb} version {number} of {item.name}", {"applications": [url(item)]})


@blueprint.delete("/applications/<id_or_name>/<int:number>")
def delete(id_or_name: str, number: int) -> Response:
    """Delete the version; the last one can only go with its application."""
    body = inputs.json_body(Deletion)
    catalogue = service().catalogue
    item = catalogue.get(id_or_name)
    require_match(item)
    catalogue.delete_version(item.id, number, force=body.force)
    return done(f"Deleting version {number} of {item.name}", {"applications": [url(item)]})


@blueprint.get("/applications/<id_or_name>/<int:number>/manifest")
def manifest(id_or_name: str, number: int) -> Response:
    """Return the manifest of the version."""
    item = service().catalogue.get(id_or_name)
    return rest.sync(rules.find_version(item, number).manifest)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
