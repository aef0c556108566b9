"""Rows of applications and versions. Functions on an open transaction; no rule lives here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ams import schema
from ams.catalogue.fields import effective
from ams.catalogue.records import Application, LocalVersion, Summary, Version
from ams.catalogue.rules import version_status
from regkit.oci.application import ApplicationImage, Key, PackageFile
from regkit.oci.digest import Digest

_APP, _VERSION, _FILE = schema.application, schema.version, schema.version_file
_SUMMARY = [c for c in _VERSION.c if c.name not in ("oci_manifest", "oci_config")]
_BATCH = 500
"""Values per IN clause; SQLite allows 32,766 variables, older ones 999."""


def find(connection: sa.Connection, id_or_name: str) -> Application | None:
    """Return an application by id, or else by name."""
    for column in (_APP.c.id, _APP.c.name):
        if found := applications(connection, column == id_or_name):
            return found[0]
    return None


def applications(
    connection: sa.Connection, condition: sa.ColumnElement[bool] | None = None
) -> list[Application]:
    """Return the applications that fit, by name, with their versions."""
    condition = sa.true() if condition is None else condition
    rows = connection.execute(sa.select(_APP).where(condition).order_by(_APP.c.name)).all()
    wanted = sa.select(_APP.c.id).where(condition)
    versions: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(
        sa.select(*_SUMMARY)
        .where(_VERSION.c.application_id.in_(wanted))
        .order_by(_VERSION.c.application_id, _VERSION.c.number)
    ).all():
        versions[row.application_id].append(row)
    return [
        Application(
            id=row.id,
            name=row.name,
            origin=row.origin,
            vm=row.vm,
            created=row.created,
            updated=row.updated,
            versions=tuple(_version(found, row.origin) for found in versions[row.id]),
            fields=row.fields,
        )
        for row in rows
    ]


def by_ids(connection: sa.Connection, ids: Sequence[str]) -> list[Application]:
    """Return the applications with these ids that there are, in their order: 2 queries for 500."""
    found: dict[str, Application] = {}
    for batch in _batches(list(ids)):
        for item in applications(connection, _APP.c.id.in_(batch)):
            found[item.id] = item
    return [found[id_] for id_ in ids if id_ in found]


def summaries(connection: sa.Connection, *, described: bool) -> list[Summary]:
    """Return all applications without their versions, by name, in one query.

    The manifests are read for `described` ones only: they cost most of it.
    """
    numbers = sa.select(sa.func.max(_VERSION.c.number)).where(
        _VERSION.c.application_id == _APP.c.id
    )
    published = sa.exists().where(_VERSION.c.application_id == _APP.c.id, _VERSION.c.published)
    latest = _VERSION.alias()
    rows = connection.execute(
        sa.select(
            _APP.c.id,
            _APP.c.name,
            _APP.c.origin,
            _APP.c.vm,
            _APP.c.fields,
            published.label("published"),
            latest.c.architecture,
            *([latest.c.manifest] if described else []),
        )
        .join(latest, latest.c.application_id == _APP.c.id)
        .where(latest.c.number == numbers.scalar_subquery())
        .order_by(_APP.c.name)
    ).all()
    return [
        Summary(
            id=row.id,
            name=row.name,
            origin=row.origin,
            vm=row.vm,
            published=row.published,
            architecture=row.architecture,
            manifest=effective(row.manifest, row.fields) if described else {},
            fields=row.fields,
        )
        for row in rows
    ]


def _version(row: Any, origin: str) -> Version:
    return Version(
        number=row.number,
        architecture=row.architecture,
        digest=Digest.parse(row.digest),
        published=row.published,
        status=version_status(published=row.published),
        size=row.size,
        manifest=row.manifest,
        error="",
        created=row.created,
        imported=origin == "registry",
    )


def local_versions(connection: sa.Connection) -> list[LocalVersion]:
    """Return every version, by key."""
    rows = connection.execute(
        sa.select(
            _APP.c.id,
            _APP.c.name,
            _APP.c.origin,
            _VERSION.c.number,
            _VERSION.c.architecture,
            _VERSION.c.digest,
            _VERSION.c.published,
            _VERSION.c.size,
        )
        .join(_VERSION, _VERSION.c.application_id == _APP.c.id)
        .order_by(_APP.c.name, _VERSION.c.number)
    ).all()
    return [
        LocalVersion(
            key=Key(row.name, row.number, row.architecture),
            digest=Digest.parse(row.digest),
            published=row.published,
            origin=row.origin,
            application_id=row.id,
            status=version_status(published=row.published),
            size=row.size,
        )
        for row in rows
    ]


def next_number(connection: sa.Connection, name: str) -> int:
    """Return where numbering starts for a new application of this name."""
    row = connection.execute(
        sa.select(schema.retired.c.next_number).where(schema.retired.c.name == name)
    ).first()
    return 0 if row is None else row.next_number


def own_next_number(connection: sa.Connection, id_: str) -> int:
    """Return the number of an application's next version."""
    return connection.execute(sa.select(_APP.c.next_number).where(_APP.c.id == id_)).scalar_one()


def insert_application(
    connection: sa.Connection,
    id_: str,
    name: str,
    *,
    origin: str,
    vm: bool,
    next_number: int,
    now: datetime,
) -> None:
    """Add an application without versions; the caller adds one in the same transaction."""
    connection.execute(
        _APP.insert().values(
            id=id_,
            name=name,
            origin=origin,
            vm=vm,
            next_number=next_number,
            created=now,
            updated=now,
        )
    )


def insert_version(
    connection: sa.Connection,
    application_id: str,
    image: ApplicationImage,
    manifest: bytes,
    config: bytes,
    *,
    published: bool,
    created: datetime,
) -> None:
    """Add a version with its files."""
    number = image.key.number
    connection.execute(
        _VERSION.insert().values(
            application_id=application_id,
            number=number,
            architecture=image.key.architecture,
            digest=str(Digest.of(manifest)),
            size=image.size,
            published=published,
            manifest=dict(image.manifest),
            oci_manifest=manifest,
            oci_config=config,
            created=created,
        )
    )
    rows = [
        {
            "application_id": application_id,
            "number": number,
            "path": file.path,
            "digest": str(file.digest),
            "size": file.size,
            "mode": file.mode,
        }
        for file in image.files
    ]
    if rows:
        connection.execute(_FILE.insert(), rows)


def touch(connection: sa.Connection, application_id: str, now: datetime, **values: object) -> None:
    """Note that an application has changed, and set `values` of its columns."""
    connection.execute(
        _APP.update().where(_APP.c.id == application_id).values(updated=now, **values)
    )


def set_published(
    connection: sa.Connection, application_id: str, numbers: Iterable[int], *, published: bool
) -> None:
    """Set whether versions are published."""
    connection.execute(
        _VERSION.update()
        .where(_VERSION.c.application_id == application_id, _VERSION.c.number.in_(list(numbers)))
        .values(published=published)
    )


def delete_version(connection: sa.Connection, application_id: str, number: int) -> None:
    """Remove a version and its files' rows."""
    connection.execute(
        _VERSION.delete().where(
            _VERSION.c.application_id == application_id, _VERSION.c.number == number
        )
    )


def delete_application(connection: sa.Connection, application: Application) -> None:
    """Remove an application with its versions; a local one's numbering is remembered."""
    if application.origin == "local":
        highest = own_next_number(connection, application.id)
        table = schema.retired
        connection.execute(table.delete().where(table.c.name == application.name))
        connection.execute(table.insert().values(name=application.name, next_number=highest))
    connection.execute(_APP.delete().where(_APP.c.id == application.id))


def withdraw(connection: sa.Connection, key: Key, digest: Digest, now: datetime) -> None:
    """Write the tombstone that takes a version out of the registry."""
    restore(connection, key)
    connection.execute(
        schema.withdrawal.insert().values(
            name=key.name,
            number=key.number,
            architecture=key.architecture,
            digest=str(digest),
            at=now,
        )
    )


def restore(connection: sa.Connection, key: Key) -> None:
    """Drop a version's tombstone, if it has one."""
    connection.execute(schema.withdrawal.delete().where(is_key(schema.withdrawal, key)))


def was_pushed(connection: sa.Connection, key: Key) -> bool:
    """Say whether the registry may hold the version."""
    query = sa.select(schema.pushed.c.name).where(is_key(schema.pushed, key))
    return connection.execute(query).first() is not None


def is_key(table: sa.Table, key: Key) -> sa.ColumnElement[bool]:
    """Return the condition that a row of `table` has this key."""
    return sa.and_(
        table.c.name == key.name,
        table.c.number == key.number,
        table.c.architecture == key.architecture,
    )


def files(connection: sa.Connection, application_id: str, number: int) -> list[PackageFile]:
    """Return a version's files, by path."""
    rows = connection.execute(
        sa.select(_FILE)
        .where(_FILE.c.application_id == application_id, _FILE.c.number == number)
        .order_by(_FILE.c.path)
    ).all()
    return [PackageFile(row.path, Digest.parse(row.digest), row.size, row.mode) for row in rows]


def content(
    connection: sa.Connection, application_id: str, number: int
) -> tuple[bytes, bytes] | None:
    """Return a version's OCI manifest and config."""
    row = connection.execute(
        sa.select(_VERSION.c.oci_manifest, _VERSION.c.oci_config).where(
            _VERSION.c.application_id == application_id, _VERSION.c.number == number
        )
    ).first()
    return None if row is None else (row.oci_manifest, row.oci_config)


def claim(connection: sa.Connection, digests: Iterable[Digest], now: datetime) -> None:
    """Keep blobs from garbage collection for a while, whether they are there yet or not."""
    table = schema.claim
    for batch in _batches(sorted({str(digest) for digest in digests})):
        connection.execute(table.delete().where(table.c.digest.in_(batch)))
        connection.execute(table.insert(), [{"digest": digest, "at": now} for digest in batch])


def doom(connection: sa.Connection, digests: Iterable[Digest], run: str, now: datetime) -> None:
    """Note that the garbage collection `run` is about to delete blobs."""
    table = schema.doomed
    for batch in _batches(sorted({str(digest) for digest in digests})):
        connection.execute(table.delete().where(table.c.digest.in_(batch)))
        connection.execute(
            table.insert(), [{"digest": digest, "run": run, "at": now} for digest in batch]
        )


def doomed(connection: sa.Connection, digests: Iterable[Digest]) -> dict[Digest, str]:
    """Return those of `digests` that are about to be deleted, and by which collection."""
    table, wanted = schema.doomed, {str(digest): digest for digest in digests}
    return {
        wanted[row.digest]: row.run
        for batch in _batches(list(wanted))
        for row in connection.execute(table.select().where(table.c.digest.in_(batch))).all()
    }


def forget_doomed(connection: sa.Connection, run: str) -> None:
    """Note that the garbage collection `run` has deleted what it was about to."""
    connection.execute(schema.doomed.delete().where(schema.doomed.c.run == run))


def drop_doomed(connection: sa.Connection, before: datetime) -> None:
    """Forget what was doomed before `before`."""
    connection.execute(schema.doomed.delete().where(schema.doomed.c.at < before))


def drop_claims(connection: sa.Connection, before: datetime) -> None:
    """Forget claims older than `before`."""
    connection.execute(schema.claim.delete().where(schema.claim.c.at < before))


def unused(connection: sa.Connection, digests: Iterable[Digest]) -> list[Digest]:
    """Return those of `digests` that no version refers to and nobody claims, nor is the mark."""
    return _in_none_of(
        (_FILE.c.digest, schema.claim.c.digest, schema.storage.c.mark), connection, digests
    )


def unreferenced(connection: sa.Connection, digests: Iterable[Digest]) -> list[Digest]:
    """Return those of `digests` that no version refers to."""
    return _in_none_of((_FILE.c.digest,), connection, digests)


def _in_none_of(
    columns: Sequence[sa.Column[str]], connection: sa.Connection, digests: Iterable[Digest]
) -> list[Digest]:
    wanted = {str(digest): digest for digest in digests}
    for batch in _batches(list(wanted)):
        for column in columns:
            for row in connection.execute(
                sa.select(column).where(column.in_(batch)).distinct()
            ).all():
                wanted.pop(row[0], None)
    return list(wanted.values())


def _batches(values: list[str]) -> Iterable[list[str]]:
    return (values[i : i + _BATCH] for i in range(0, len(values), _BATCH))
