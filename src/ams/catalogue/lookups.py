"""Look-ups and checks that every change of the catalogue begins with, on an open transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from ams import schema
from ams.catalogue import rules, store
from ams.catalogue.records import Application, Version
from regkit import failpoints
from regkit.blobs import BlobStore
from regkit.database import as_engine_error
from regkit.errors import Conflict, Forbidden, NotFound, Unavailable
from regkit.oci.application import Key, PackageFile


def key(application: Application, version: Version) -> Key:
    """Return the key of a version of an application."""
    return Key(application.name, version.number, version.architecture)


def existing(connection: sa.Connection, id_or_name: str) -> Application:
    """Return the application with this id or name. Raises NotFound."""
    if application := store.find(connection, id_or_name):
        return application
    raise NotFound(
        f"no application has the id or name {id_or_name[:80]!r}: "
        "'amc application list' shows those there are"
    )


def by_name(connection: sa.Connection, name: str) -> Application | None:
    """Return the application with this name, or None."""
    found = store.applications(connection, schema.application.c.name == name)
    return found[0] if found else None


def local(connection: sa.Connection, id_or_name: str) -> Application:
    """Return an application that may be changed here. Raises NotFound, Forbidden."""
    application = existing(connection, id_or_name)
    rules.require_local(application.name, application.origin)
    return application


def require_free(connection: sa.Connection, name: str) -> None:
    """Raise Conflict when an application has this name."""
    if application := by_name(connection, name):
        how = (
            "it was imported from the registry; give yours another name"
            if application.immutable
            else f"update it instead ('amc application update {application.id} <package>')"
        )
        raise Conflict(f"an application named {name} exists already: {how}")


def require_deletable(application: Application, *, force: bool) -> None:
    """Raise Forbidden for an imported application, unless forced."""
    if application.immutable and not force:
        raise Forbidden(
            f"application {application.name} is immutable: it was imported from the registry, "
            "which owns it; remove it there, or use --force to remove it here until the next "
            "update"
        )


def withdraw(
    connection: sa.Connection, application: Application, version: Version, now: datetime
) -> None:
    """Write the tombstone of a version that the registry has, or is about to have."""
    of = key(application, version)
    if version.published or store.was_pushed(connection, of):
        failpoints.reach("withdrawal.tombstone:before", as_engine_error)
        store.withdraw(connection, of, version.digest, now)
        failpoints.reach("withdrawal.tombstone:after")


def require_blobs(blobs: BlobStore, files: Iterable[PackageFile]) -> None:
    """Raise Unavailable unless every file's content is stored."""
    for file in files:
        if blobs.size(file.digest) != file.size:
            raise Unavailable(f"the content of {file.path!r} is not stored: try again")
