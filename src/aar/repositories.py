"""Repositories as the OCI distribution API sees them: blobs, manifests, tags, referrers.

What makes a manifest an application version, and what may happen to those, is the rule of
`applications`; here it is only asked. Uploads have a module of their own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import sqlalchemy as sa

from aar import applications, audit, manifests, quarantine, schema
from aar.audit import Record
from aar.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    Immutable,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameUnknown,
)
from aar.manifests import HeldBlob, StoredManifest
from regkit.blobs import BlobReader, BlobStore
from regkit.database import Database
from regkit.errors import Invalid, NoSpace, NotFound, TooLarge, Unavailable
from regkit.oci import application
from regkit.oci.application import ApplicationImage
from regkit.oci.digest import Digest
from regkit.oci.manifests import Descriptor, Manifest, parse_manifest
from regkit.oci.names import application_of, repository_of, valid_tag
from regkit.trust import Entry

MAX_PAGE = 1000
"""The most names or referrers in one answer."""

TOUCH_STEP = timedelta(minutes=5)
"""How old the mark of an unused blob may be before asking for the blob renews it."""


@dataclass(frozen=True)
class Pushed:
    """A manifest that was taken: its digest, and that of its subject, if it has one."""

    digest: Digest
    subject: Digest | None


@dataclass(frozen=True)
class Page:
    """Names in order. `last` is where the next page begins; None when this is the end."""

    names: tuple[str, ...]
    last: str | None


@dataclass(frozen=True)
class Referrers:
    """Descriptors of manifests. `last` is the digest where the next page begins, or None."""

    manifests: tuple[Descriptor, ...]
    last: str | None


class Repositories:
    """The repositories of the registry.

    Every method raises NameInvalid for what is no repository name. An `actor` is who writes; None
    is the operator on the registry's machine.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def list(self, n: int | None = None, last: str | None = None) -> Page:
        """Return the names of all repositories, up to `n`, after `last`."""
        column = sa.union(
            sa.select(schema.manifest.c.repository),
            sa.select(schema.repository_blob.c.repository),
        ).subquery()
        name = column.c.repository
        limit = _limit(n)
        query = sa.select(name).order_by(name).limit(limit + 1)
        if last is not None:
            query = query.where(name > last)
        with self._database.read() as connection:
            return _page(list(connection.execute(query).scalars()), limit)

    def tags(self, repository: str, n: int | None = None, last: str | None = None) -> Page:
        """Return the tags of a repository, up to `n`, after `last`. Raises NameUnknown.

        The order is the specification's, "case-insensitive alphanumeric".
        """
        manifests.checked_repository(repository)
        table, limit = schema.tag, _limit(n)
        order = sa.tuple_(sa.func.lower(table.c.name), table.c.name)
        query = sa.select(table.c.name).where(table.c.repository == repository)
        if last is not None:
            query = query.where(order > sa.tuple_(last.lower(), last))
        query = query.order_by(sa.func.lower(table.c.name), table.c.name).limit(limit + 1)
        with self._database.read() as connection:
            names = list(connection.execute(query).scalars())
            if not names:
                _check_exists(connection, repository)
        return _page(names, limit)

    def blob_size(self, repository: str, digest: Digest) -> int:
        """Return the size of a blob in bytes. Raises BlobUnknown, NameUnknown.

        Asking keeps a blob that no manifest uses from the janitor for another period, since a
        pusher who asks goes on to refer to it.
        """
        manifests.checked_repository(repository)
        with self._database.read() as connection:
            found = self._existing_blob(connection, repository, digest)
        if _is_fading(found):
            # Reading must go on when the disk is full or the database busy.
            scope = manifests.blob_scope(digest)
            with suppress(NoSpace, Unavailable), self._database.write(scope) as connection:
                found = self._existing_blob(connection, repository, digest)
                manifests.link_blob(connection, repository, digest, schema.now_text())
        return found.size

    def read_blob(self, digest: Digest, start: int = 0, stop: int | None = None) -> BlobReader:
        """Return, in pieces, the bytes from `start` up to `stop` of a blob whose size is known.

        It was `blob_size` that said whether a repository has it. Raises BlobUnknown, at the call.
        """
        try:
            return self._blobs.read(digest, start, stop)
        except NotFound:
            raise _blob_unknown(digest) from None

    def blob_link(self, digest: Digest) -> str | None:
        """Return a URL from which a client may fetch a blob that it was told the size of.

        None when the registry sends it itself. Raises BlobUnknown.
        """
        try:
            return self._blobs.link(digest)
        except NotFound:
            raise _blob_unknown(digest) from None

    def mount(self, repository: str, digest: Digest, source: str | None = None) -> int | None:
        """Give a blob of the repository `source` to this one too; return its size.

        Without `source` any repository will do. None when there is nothing to mount: the caller
        begins an upload then.
        """
        manifests.checked_repository(repository)
        link = schema.repository_blob
        with self._database.write(manifests.blob_scope(digest)) as connection:
            if source is None:
                query = sa.select(link.c.repository).where(link.c.digest == str(digest)).limit(1)
                source = connection.execute(query).scalar()
            found = manifests.blob(connection, source, digest) if source else None
            if found is not None:
                manifests.link_blob(connection, repository, digest, schema.now_text())
        return found.size if found else None

    def delete_blob(self, repository: str, digest: Digest, *, actor: Entry | None) -> None:
        """Take a blob from a repository.

        Raises BlobUnknown, NameUnknown, Denied, and Immutable when a published version uses it.
        """
        manifests.checked_repository(repository)
        applications.check_may_write(actor)
        link = schema.repository_blob
        scopes = manifests.repository_scope(repository), manifests.blob_scope(digest)
        with self._database.write(*scopes) as connection:
            self._existing_blob(connection, repository, digest)
            users = manifests.users_of(connection, repository, digest)
            if published := applications.published_with(connection, repository, users):
                raise Immutable(
                    f"the blob belongs to {published[0].key}: remove that version instead"
                )
            connection.execute(
                link.delete().where(link.c.repository == repository, link.c.digest == str(digest))
            )
            connection.execute(
                schema.blob.update()
                .where(schema.blob.c.digest == str(digest))
                .values(touched=schema.now_text())
            )
            audit.append(connection, [_record("blob-deleted", repository, digest, actor)])

    def manifest(self, repository: str, reference: str) -> StoredManifest:
        """Return the manifest that a tag or digest names. Raises ManifestUnknown, NameUnknown."""
        manifests.checked_repository(repository)
        with self._database.read() as connection:
            digest = _resolve(connection, repository, reference)
            found = manifests.get(connection, repository, digest) if digest else None
            if found is None:
                _check_exists(connection, repository)
                raise _manifest_unknown(reference)
        return found

    def put_manifest(
        self,
        repository: str,
        reference: str,
        content: bytes,
        media_type: str | None = None,
        *,
        actor: Entry | None,
        now: datetime | None = None,
    ) -> Pushed:
        """Take a manifest under a tag or its digest; an application version is published by it.

        Raises ManifestInvalid, ManifestTooLarge, DigestInvalid, ManifestBlobUnknown; for
        application versions Immutable and Denied.
        """
        manifests.checked_repository(repository)
        now = now or datetime.now(timezone.utc)
        digest, tag = _target(reference, content)
        parsed = _parsed(content, media_type)
        image = self._image(repository, tag, parsed)
        with self._database.write(manifests.repository_scope(repository)) as connection:
            manifests.check_references(connection, repository, parsed)
            at = schema.to_text(now)
            new = manifests.put(connection, repository, digest, content, parsed, now=at)
            if image is not None and tag is not None:
                applications.publish(connection, image, digest, actor, now)
            else:
                applications.check_may_write(actor, [image.key.architecture] if image else ())
                if image is not None:
                    quarantine.check(connection, image.key)
                if tag is not None:
                    if applications.is_reserved(connection, repository, tag):
                        raise Denied(
                            f"the registry itself keeps the tag {tag!r} of this application: "
                            "push application versions as <number>-<architecture>"
                        )
                    new |= manifests.set_tag(connection, repository, tag, digest)
                if new:
                    pushed = _record("manifest-pushed", repository, digest, actor, tag)
                    audit.append(connection, [pushed], now)
        return Pushed(digest, parsed.subject.digest if parsed.subject else None)

    def delete_manifest(
        self,
        repository: str,
        reference: str,
        *,
        actor: Entry | None,
        now: datetime | None = None,
    ) -> None:
        """Drop a tag, or a manifest with all its tags; a published version is removed whole.

        Raises ManifestUnknown, NameUnknown, and Denied for the index of an application's number
        and for architectures that `actor` may not write.
        """
        manifests.checked_repository(repository)
        now = now or datetime.now(timezone.utc)
        with self._database.write(manifests.repository_scope(repository)) as connection:
            digest = _resolve(connection, repository, reference)
            if digest is None or manifests.get(connection, repository, digest) is None:
                _check_exists(connection, repository)
                raise _manifest_unknown(reference)
            by_digest = reference == str(digest)
            versions = applications.published_with(connection, repository, [digest])
            if versions:
                applications.remove_versions(connection, versions, actor, now)
                return
            applications.check_may_write(actor)
            tags = manifests.tags_of(connection, repository, digest) if by_digest else [reference]
            for tag in tags:
                if applications.is_reserved(connection, repository, tag):
                    raise Denied(
                        f"the registry itself keeps the tag {tag!r} of this application: remove "
                        f"the versions of {tag} instead, and it goes with them"
                    )
            if by_digest:
                manifests.remove(connection, repository, digest, schema.to_text(now))
                done = _record("manifest-deleted", repository, digest, actor)
            else:
                manifests.remove_tag(connection, repository, reference)
                done = _record("tag-deleted", repository, digest, actor, reference)
            audit.append(connection, [done], now)

    def referrers(
        self,
        repository: str,
        digest: Digest,
        artifact_type: str | None = None,
        last: str | None = None,
    ) -> Referrers:
        """Return what refers to `digest` as its subject, of one artifact type if given.

        Nothing, and an unknown repository, give an empty answer: the specification keeps 404 for
        registries without this endpoint.
        """
        manifests.checked_repository(repository)
        with self._database.read() as connection:
            found = manifests.referrers(
                connection,
                repository,
                digest,
                artifact_type=artifact_type,
                after=last or "",
                limit=MAX_PAGE + 1,
            )
        more = len(found) > MAX_PAGE
        found = found[:MAX_PAGE]
        return Referrers(tuple(found), str(found[-1].digest) if more else None)

    def _existing_blob(
        self, connection: sa.Connection, repository: str, digest: Digest
    ) -> HeldBlob:
        found = manifests.blob(connection, repository, digest)
        if found is None:
            _check_exists(connection, repository)
            raise _blob_unknown(digest)
        return found

    def _image(
        self, repository: str, tag: str | None, manifest: Manifest
    ) -> ApplicationImage | None:
        """Read the application version that `manifest` is; None when it isn't one."""
        config = manifest.config
        if config is None or config.media_type != application.CONFIG_MEDIA_TYPE:
            if manifest.artifact_type == application.ARTIFACT_TYPE and not manifest.is_index:
                raise ManifestInvalid(
                    "an application's config must have the media type "
                    f"{application.CONFIG_MEDIA_TYPE}"
                )
            return None
        size = self._blobs.size(config.digest)
        if size is None:
            raise ManifestBlobUnknown(
                f"the repository lacks the application's config {config.digest}: push it first",
                [{"digest": str(config.digest)}],
            )
        if size != config.size or size > application.MAX_CONFIG:
            raise ManifestInvalid(
                f"the application's config has {size} bytes, the manifest says {config.size}; "
                f"at most {application.MAX_CONFIG} are allowed"
            )
        try:
            image = application.read(manifest, b"".join(self._blobs.read(config.digest)))
        except NotFound:
            raise ManifestBlobUnknown(f"{config.digest} has just gone: push it again") from None
        except Invalid as error:
            raise ManifestInvalid(str(error)) from None
        if application_of(repository) != image.key.name:
            raise ManifestInvalid(
                f"the application {image.key.name!r} belongs to the repository "
                f"{repository_of(image.key.name)!r}, not {repository!r}"
            )
        if tag not in {None, image.key.tag}:
            raise ManifestInvalid(
                f"this is version {image.key.number} for {image.key.architecture}: push it with "
                f"the tag {image.key.tag!r}, not {tag!r}"
            )
        return image


def _record(
    action: str, repository: str, digest: Digest, actor: Entry | None, tag: str | None = None
) -> Record:
    detail = {"digest": str(digest)} | ({"tag": tag} if tag else {})
    return Record(action, repository, audit.by_caller(actor), detail)


def _target(reference: str, content: bytes) -> tuple[Digest, str | None]:
    """Return the digest to keep `content` under, and the tag if `reference` is one."""
    if ":" not in reference:
        if not valid_tag(reference):
            raise ManifestInvalid(
                f"{reference[:80]!r} is not a tag: use up to 128 letters, digits, '_', '.' and "
                "'-', not beginning with '.' or '-'"
            )
        return Digest.of(content), reference
    digest = manifests.parse_digest(reference)
    if (found := Digest.of(content, digest.algorithm)) != digest:
        raise DigestInvalid(f"the manifest has the digest {found}, not {digest}")
    return digest, None


def _parsed(content: bytes, media_type: str | None) -> Manifest:
    try:
        return parse_manifest(content, media_type)
    except TooLarge as error:
        raise ManifestTooLarge(str(error)) from None
    except Invalid as error:
        raise ManifestInvalid(str(error)) from None


def _resolve(connection: sa.Connection, repository: str, reference: str) -> Digest | None:
    if ":" in reference:
        return manifests.parse_digest(reference)
    if not valid_tag(reference):
        return None
    return manifests.tagged(connection, repository, reference)


def _check_exists(connection: sa.Connection, repository: str) -> None:
    if not manifests.repository_exists(connection, repository):
        raise NameUnknown(f"the registry has no repository {repository[:80]!r}")


def _is_fading(found: HeldBlob) -> bool:
    """Whether the janitor would soon take the blob for left over."""
    recent = schema.to_text(datetime.now(timezone.utc) - TOUCH_STEP)
    return found.touched < recent and not found.used


def _manifest_unknown(reference: str) -> ManifestUnknown:
    return ManifestUnknown(f"the repository has no manifest {reference[:140]!r}")


def _blob_unknown(digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"the repository has no blob {digest}")


def _limit(n: int | None) -> int:
    if n is None:
        return MAX_PAGE
    if n < 0:
        raise Invalid("n must not be negative")
    return min(n, MAX_PAGE)


def _page(names: list[str], limit: int) -> Page:
    more = len(names) > limit > 0
    names = names[:limit]
    return Page(tuple(names), names[-1] if more else None)
