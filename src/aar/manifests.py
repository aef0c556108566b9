"""Rows of manifests, tags and blob links, always inside the caller's transaction.

The store under `applications` and `repositories`; the rules are theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from aar import schema
from aar.errors import DigestInvalid, ManifestBlobUnknown, ManifestInvalid, NameInvalid
from regkit.errors import Invalid
from regkit.oci.digest import Digest
from regkit.oci.manifests import Descriptor, Manifest
from regkit.oci.names import valid_repository

# Under the least number of variables that any SQLite allows in a statement (999).
_BATCH = 500


@dataclass(frozen=True)
class StoredManifest:
    """A manifest as it was pushed, byte for byte."""

    digest: Digest
    media_type: str
    content: bytes


def repository_scope(repository: str) -> str:
    """Name the lock of a repository: its manifests, tags, versions and tombstones."""
    return f"repository:{repository}"


def blob_scope(digest: Digest) -> str:
    """Name the lock of a blob: its row, its content, its links."""
    return f"blob:{digest}"


def checked_repository(name: str) -> str:
    """Return `name`. Raises NameInvalid unless it may name a repository."""
    if not valid_repository(name):
        raise NameInvalid(
            f"{name[:80]!r} is not a repository name: use lower-case letters and digits, "
            "separated by '.', '_', '__', '-' or '/'"
        )
    return name


def parse_digest(text: str) -> Digest:
    """Read a digest. Raises DigestInvalid."""
    try:
        return Digest.parse(text)
    except Invalid as error:
        raise DigestInvalid(str(error)) from None


def repository_exists(connection: sa.Connection, repository: str) -> bool:
    """Whether the repository holds anything."""
    for table in (schema.manifest, schema.repository_blob):
        query = sa.select(table.c.digest).where(table.c.repository == repository).limit(1)
        if connection.execute(query).first() is not None:
            return True
    return False


@dataclass(frozen=True)
class HeldBlob:
    """A blob of a repository: its size in bytes, when it was last pushed or asked for while no
    manifest used it, and whether one does."""

    size: int
    touched: str
    used: bool


def blob(connection: sa.Connection, repository: str, digest: Digest) -> HeldBlob | None:
    """Return a blob that the repository has; None when it hasn't."""
    row = connection.execute(_BLOB, {"in_repository": repository, "of": str(digest)}).first()
    return None if row is None else HeldBlob(row.size, row.touched, row.used)


def _blob_query() -> sa.Select[Any, Any, bool]:
    link, blob, reference = schema.repository_blob, schema.blob, schema.reference
    repository, digest = sa.bindparam("in_repository"), sa.bindparam("of")
    used = sa.exists().where(reference.c.repository == repository, reference.c.digest == digest)
    return (
        sa.select(blob.c.size, link.c.touched, used.label("used"))
        .join(link, link.c.digest == blob.c.digest)
        .where(
            link.c.repository == repository,
            blob.c.digest == digest,
            blob.c.state == schema.PRESENT,
        )
    )


_BLOB = _blob_query()
"""Made once: building it would cost as much as running it."""


def link_blob(connection: sa.Connection, repository: str, digest: Digest, now: str) -> None:
    """Make a present blob one of the repository's."""
    link = schema.repository_blob
    values = {"repository": repository, "digest": str(digest)}
    found = connection.execute(
        link.update()
        .where(link.c.repository == repository, link.c.digest == str(digest))
        .values(touched=now)
    )
    if found.rowcount == 0:
        connection.execute(link.insert().values(**values, touched=now))


def keep_blob(connection: sa.Connection, digest: Digest, size: int, now: str) -> None:
    """Record a blob as present, whatever it was before."""
    blob = schema.blob
    values = {"size": size, "state": schema.PRESENT, "touched": now}
    found = connection.execute(blob.update().where(blob.c.digest == str(digest)).values(**values))
    if found.rowcount == 0:
        connection.execute(blob.insert().values(digest=str(digest), **values))


def check_references(connection: sa.Connection, repository: str, manifest: Manifest) -> None:
    """Check that the repository has everything that `manifest` refers to.

    Raises ManifestBlobUnknown with all missing digests, ManifestInvalid for a wrong size. The
    subject may be missing, as the specification has it.
    """
    wanted = manifest.manifests if manifest.is_index else manifest.blobs
    digests = sorted({str(descriptor.digest) for descriptor in wanted})
    find = _manifest_sizes if manifest.is_index else _sizes
    present = find(connection, repository, digests)
    if missing := [digest for digest in digests if digest not in present]:
        raise ManifestBlobUnknown(
            f"the repository lacks {len(missing)} of what the manifest refers to, such as "
            f"{missing[0]}: push it first",
            [{"digest": digest} for digest in missing[:100]],
        )
    for descriptor in wanted:
        if descriptor.size != present[str(descriptor.digest)]:
            raise ManifestInvalid(
                f"{descriptor.digest} has {present[str(descriptor.digest)]} bytes, the manifest "
                f"says {descriptor.size}"
            )


def put(
    connection: sa.Connection,
    repository: str,
    digest: Digest,
    content: bytes,
    manifest: Manifest,
    *,
    now: str,
) -> bool:
    """Keep a manifest; one that is there already stays as it is. Returns whether it is new."""
    table = schema.manifest
    if get(connection, repository, digest) is not None:
        return False
    connection.execute(
        table.insert().values(
            repository=repository,
            digest=str(digest),
            media_type=manifest.media_type,
            content=content,
            size=len(content),
            subject=str(manifest.subject.digest) if manifest.subject else None,
            artifact_type=manifest.effective_artifact_type,
            annotations=dict(manifest.annotations),
            pushed_at=now,
        )
    )
    wanted = manifest.manifests if manifest.is_index else manifest.blobs
    if digests := sorted({str(descriptor.digest) for descriptor in wanted}):
        connection.execute(
            schema.reference.insert(),
            [
                {"repository": repository, "manifest": str(digest), "digest": wanted_digest}
                for wanted_digest in digests
            ],
        )
    return True


def get(connection: sa.Connection, repository: str, digest: Digest) -> StoredManifest | None:
    """Return a manifest of the repository."""
    table = schema.manifest
    row = connection.execute(
        sa.select(table.c.media_type, table.c.content).where(
            table.c.repository == repository, table.c.digest == str(digest)
        )
    ).first()
    return None if row is None else StoredManifest(digest, row.media_type, row.content)


def remove(connection: sa.Connection, repository: str, digest: Digest, now: str) -> bool:
    """Drop a manifest and its tags; the janitor's period of its blobs begins now.

    Returns whether it was there.
    """
    link, reference, table = schema.repository_blob, schema.reference, schema.manifest
    used = sa.select(reference.c.digest).where(
        reference.c.repository == repository, reference.c.manifest == str(digest)
    )
    connection.execute(
        link.update()
        .where(link.c.repository == repository, link.c.digest.in_(used))
        .values(touched=now)
    )
    # Tags and references go with it (ON DELETE CASCADE).
    found = connection.execute(
        table.delete().where(table.c.repository == repository, table.c.digest == str(digest))
    )
    return found.rowcount > 0


def tagged(connection: sa.Connection, repository: str, name: str) -> Digest | None:
    """Return the digest that a tag stands for."""
    table = schema.tag
    digest = connection.execute(
        sa.select(table.c.digest).where(table.c.repository == repository, table.c.name == name)
    ).scalar()
    return None if digest is None else Digest.parse(digest)


def set_tag(connection: sa.Connection, repository: str, name: str, digest: Digest) -> bool:
    """Let a tag stand for a manifest that the repository has. Returns whether that is new."""
    if tagged(connection, repository, name) == digest:
        return False
    table = schema.tag
    found = connection.execute(
        table.update()
        .where(table.c.repository == repository, table.c.name == name)
        .values(digest=str(digest))
    )
    if found.rowcount == 0:
        connection.execute(
            table.insert().values(repository=repository, name=name, digest=str(digest))
        )
    return True


def remove_tag(connection: sa.Connection, repository: str, name: str) -> bool:
    """Drop a tag, not the manifest. Returns whether it was there."""
    table = schema.tag
    found = connection.execute(
        table.delete().where(table.c.repository == repository, table.c.name == name)
    )
    return found.rowcount > 0


def tags_of(connection: sa.Connection, repository: str, digest: Digest) -> list[str]:
    """Return the tags that stand for a manifest."""
    table = schema.tag
    query = sa.select(table.c.name).where(
        table.c.repository == repository, table.c.digest == str(digest)
    )
    return list(connection.execute(query.order_by(table.c.name)).scalars())


def users_of(connection: sa.Connection, repository: str, digest: Digest) -> list[Digest]:
    """Return the manifests of the repository that refer to `digest`."""
    table = schema.reference
    query = sa.select(table.c.manifest).where(
        table.c.repository == repository, table.c.digest == str(digest)
    )
    return [Digest.parse(text) for text in connection.execute(query).scalars()]


def referrers(
    connection: sa.Connection,
    repository: str,
    subject: Digest,
    *,
    artifact_type: str | None,
    after: str,
    limit: int,
) -> list[Descriptor]:
    """Return the manifests whose subject is `subject`, ordered by digest."""
    table = schema.manifest
    query = sa.select(
        table.c.media_type,
        table.c.digest,
        table.c.size,
        table.c.artifact_type,
        table.c.annotations,
    ).where(
        table.c.repository == repository,
        table.c.subject == str(subject),
        table.c.digest > after,
    )
    if artifact_type is not None:
        query = query.where(table.c.artifact_type == artifact_type)
    rows = connection.execute(query.order_by(table.c.digest).limit(limit)).all()
    return [
        Descriptor(
            row.media_type,
            Digest.parse(row.digest),
            row.size,
            row.annotations,
            row.artifact_type,
        )
        for row in rows
    ]


def _sizes(connection: sa.Connection, repository: str, digests: Collection[str]) -> dict[str, int]:
    link, blob = schema.repository_blob, schema.blob
    query = (
        sa.select(blob.c.digest, blob.c.size)
        .join(link, link.c.digest == blob.c.digest)
        .where(link.c.repository == repository, blob.c.state == schema.PRESENT)
    )
    found: dict[str, int] = {}
    for batch in _batches(digests):
        rows = connection.execute(query.where(blob.c.digest.in_(batch)))
        found.update((row.digest, row.size) for row in rows)
    return found


def _manifest_sizes(
    connection: sa.Connection, repository: str, digests: Collection[str]
) -> dict[str, int]:
    table = schema.manifest
    query = sa.select(table.c.digest, table.c.size).where(table.c.repository == repository)
    found: dict[str, int] = {}
    for batch in _batches(digests):
        rows = connection.execute(query.where(table.c.digest.in_(batch)))
        found.update((row.digest, row.size) for row in rows)
    return found


def _batches(items: Iterable[str]) -> Iterable[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
