"""Versions that come from the registry: added and removed on its word only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from ams.catalogue import lookups, store
from ams.catalogue.records import Application, new_id
from regkit.errors import Conflict, Invalid
from regkit.oci import application as oci
from regkit.oci.application import ApplicationImage, Key
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST, parse_manifest


def check(key: Key, manifest: bytes, config: bytes, architecture: str) -> ApplicationImage:
    """Parse what the registry gave for `key`. Raises Invalid unless it is that, and for here."""
    parsed = oci.read(parse_manifest(manifest, MANIFEST), config)
    if parsed.key != key:
        raise Invalid(f"the manifest is that of {parsed.key}, not of {key}")
    if key.architecture != architecture:
        raise Invalid(f"{key} is not for this site, which serves {architecture}")
    return parsed


def add(
    connection: sa.Connection,
    require_blobs: Callable[[], None],
    image: ApplicationImage,
    manifest: bytes,
    config: bytes,
    *,
    replace: bool,
    now: datetime,
) -> tuple[Application, bool]:
    """Add a checked version; returns its application, and whether anything has changed.

    `require_blobs` is called before the first change, and may refuse.
    Raises Conflict and Unavailable as `Catalogue.import_version` says.
    """
    key, digest = image.key, Digest.of(manifest)
    application = lookups.by_name(connection, key.name)
    if application and not application.immutable:
        raise Conflict(
            f"a local application is named {key.name}: delete it, or filter the registry's out, "
            "so that the registry's can be imported"
        )
    present = application and application.version(key.number)
    if application and present and present.digest == digest:
        return application, False
    if present and not replace:
        raise Conflict(f"{key} is here with another content ({present.digest})")
    require_blobs()
    if application is None:
        id_ = new_id()
        store.insert_application(
            connection,
            id_,
            key.name,
            origin="registry",
            vm=False,
            next_number=key.number + 1,
            now=now,
        )
    else:
        id_ = application.id
        if present:
            store.delete_version(connection, id_, key.number)
        highest = max(version.number for version in application.versions)
        store.touch(connection, id_, now, next_number=max(highest, key.number) + 1)
    created = image.created or now
    store.insert_version(connection, id_, image, manifest, config, published=True, created=created)
    return lookups.existing(connection, id_), True


def remove(connection: sa.Connection, key: Key, now: datetime) -> Application | None:
    """Remove an imported version, and the application with its last one.

    Returns the application as it was; None when there was nothing to remove.
    """
    application = lookups.by_name(connection, key.name)
    version = application and application.version(key.number)
    if (
        application is None
        or version is None
        or not application.immutable
        or version.architecture != key.architecture
    ):
        return None
    if len(application.versions) == 1:
        store.delete_application(connection, application)
    else:
        store.delete_version(connection, application.id, key.number)
        store.touch(connection, application.id, now)
    return application
