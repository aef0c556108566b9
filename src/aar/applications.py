"""The rules for application versions.

A version is immutable: its key means one content for ever, also after it was removed. Publishing
and removing change the version, its manifest and tag, the index over the architectures of its
number and the change feed in one transaction. What a manifest is made of is checked before, by
`repositories` and `regkit.oci.application`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from aar import audit, feed, manifests, quarantine, schema
from aar.audit import Record
from aar.errors import Denied, Immutable
from aar.quarantine import Held
from regkit import failpoints
from regkit.database import Database, as_engine_error
from regkit.errors import Invalid, NotFound
from regkit.oci.application import ApplicationImage, Key, build_index, parse_version_tag
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, parse_manifest
from regkit.oci.names import application_of, repository_of, valid_application
from regkit.trust import Entry


@dataclass(frozen=True)
class Version:
    """A published version. `digest` is its manifest's, `size` the bytes of its files."""

    key: Key
    digest: Digest
    size: int
    tags: tuple[str, ...]
    published_by: str
    published_at: datetime


@dataclass(frozen=True)
class Application:
    """An application with its published versions, by number and architecture; at least one."""

    name: str
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Recorded:
    """What the registry remembers of a key."""

    version: Version
    removed_at: datetime | None


def needs_publishing(recorded: Recorded | None, key: Key, digest: Digest) -> bool:
    """Decide about pushing `digest` as `key`: True to publish, False if it is there already.

    Raises Immutable when the key means other content.
    """
    if recorded is None:
        return True
    if recorded.version.digest != digest:
        since = f"{recorded.version.published_at:%Y-%m-%d}"
        removed = ", and was removed since" if recorded.removed_at else ""
        raise Immutable(
            f"version {key.number} of {key.name} for {key.architecture} was published on {since} "
            f"with other content{removed}: it can't be changed; publish a new version number"
        )
    return recorded.removed_at is not None


def check_may_write(actor: Entry | None, architectures: Collection[str] = ()) -> None:
    """Raise Denied unless `actor` may write versions of all `architectures`.

    None is the operator on the registry's machine, who may.
    """
    if actor is None:
        return
    if not actor.role.may_write:
        raise Denied(f"the role {actor.role} only reads: writing needs the role publisher")
    if actor.architectures and (others := sorted(set(architectures) - set(actor.architectures))):
        raise Denied(
            f"this publisher may write {', '.join(actor.architectures)} only, "
            f"not {', '.join(others)}"
        )


class Applications:
    """Lists and removes application versions; publishes them for `repositories`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self, tags: Collection[str] = (), architectures: Collection[str] = ()
    ) -> list[Application]:
        """Return the applications by name, with the versions that pass the filters.

        A version passes when it has any of `tags` and is for any of `architectures`; an empty
        filter lets everything pass. Applications with no such version are left out.
        """
        with self._database.read() as connection:
            versions = _live(connection)
        wanted = set(tags)
        passed = [
            version
            for version in versions
            if (not wanted or wanted & set(version.tags))
            and (not architectures or version.key.architecture in architectures)
        ]
        return _grouped(passed)

    def get(self, name: str) -> Application:
        """Return one application. Raises NotFound."""
        with self._database.read() as connection:
            versions = _live(connection, name)
        if not versions:
            raise NotFound(f"the registry has no application {name[:80]!r}")
        return _grouped(versions)[0]

    def remove(
        self,
        name: str,
        number: int | None = None,
        architecture: str | None = None,
        *,
        actor: Entry | None,
        now: datetime | None = None,
    ) -> list[Version]:
        """Remove an application, one number of it, or one architecture of that number.

        Returns what was removed. Raises NotFound when there is nothing, Denied when `actor` may
        not write one of the architectures concerned; then nothing is removed.
        """
        if architecture is not None and number is None:
            raise Invalid("give the version number with the architecture")
        repository = repository_of(name) if valid_application(name) else ""
        scope = manifests.repository_scope(repository)
        with self._database.write(scope) as connection:
            versions = [
                version
                for version in _live(connection, name)
                if number in {None, version.key.number}
                and architecture in {None, version.key.architecture}
            ]
            if not versions:
                what = " ".join(str(part) for part in (number, architecture) if part is not None)
                version_text = f" version {what} of" if what else ""
                raise NotFound(f"the registry has no{version_text} application {name[:80]!r}")
            remove_versions(connection, versions, actor, now or datetime.now(timezone.utc))
        return versions

    def quarantine(
        self, prefix: str, now: datetime | None = None, *, dry_run: bool = False
    ) -> tuple[str, list[Version]]:
        """Withdraw every version of one publisher, and let nobody publish the same keys again.

        The publisher is given by the beginning of its fingerprint, which is returned whole, with
        what is withdrawn. Clients are told by the feed and remove what they have. What the
        publisher had removed itself is closed too. `dry_run` changes nothing. Raises NotFound,
        Invalid.
        """
        now = now or datetime.now(timezone.utc)
        with self._database.read() if dry_run else self._database.write() as connection:
            publisher = quarantine.publisher(connection, prefix)
            recorded = _recorded_by(connection, publisher)
            versions = [item.version for item in recorded if item.removed_at is None]
            if not dry_run:
                keys = [Held(r.version.key, r.version.digest, publisher, now) for r in recorded]
                known = {item.key for item in quarantine.held(connection)}
                fresh = [item for item in keys if item.key not in known]
                quarantine.hold(connection, fresh)
                audit.append(connection, [_held("quarantined", item) for item in fresh], now)
                remove_versions(connection, versions, None, now)
        return publisher, versions

    def release(self, prefix: str, now: datetime | None = None) -> tuple[str, list[Held]]:
        """Let the versions of a publisher that are in quarantine be published again.

        None comes back by that alone: whoever may push them does. Returns the publisher's whole
        fingerprint, and what was released. Raises NotFound, Invalid.
        """
        with self._database.write() as connection:
            publisher = quarantine.publisher(connection, prefix)
            released = quarantine.held(connection, publisher)
            quarantine.release(connection, publisher)
            audit.append(connection, [_held("released", item) for item in released], now)
        return publisher, released

    def in_quarantine(self) -> list[Held]:
        """Return what is in quarantine, by key."""
        with self._database.read() as connection:
            return quarantine.held(connection)


def publish(
    connection: sa.Connection,
    image: ApplicationImage,
    digest: Digest,
    actor: Entry | None,
    now: datetime,
) -> bool:
    """Publish the manifest `digest`, which its repository has, as the version `image.key`.

    The last step of a transaction. Returns False when it was published already. Raises Immutable,
    Denied.
    """
    key = image.key
    check_may_write(actor, [key.architecture])
    repository = repository_of(key.name)
    recorded = _recorded(connection, key)
    if not needs_publishing(recorded, key, digest):
        return False
    quarantine.check(connection, key)
    version = Version(key, digest, image.size, image.tags, _name_of(actor), now)
    table = schema.application_version
    values = {
        "digest": str(digest),
        "size": version.size,
        "tags": list(version.tags),
        "published_by": version.published_by,
        "published_at": schema.to_text(now),
        "removed_at": None,
    }
    if recorded is None:
        connection.execute(
            table.insert().values(
                name=key.name, number=key.number, architecture=key.architecture, **values
            )
        )
    else:
        connection.execute(table.update().where(_is(key)).values(**values))
    manifests.set_tag(connection, repository, key.tag, digest)
    _rebuild_index(connection, key.name, key.number, now)
    audit.append(connection, [_record("published", version, actor)], now)
    feed.append(connection, [_change("published", version, actor, now)])
    return True


def remove_versions(
    connection: sa.Connection, versions: Sequence[Version], actor: Entry | None, now: datetime
) -> None:
    """Remove published versions: the last step of a transaction. Raises Denied."""
    check_may_write(actor, {version.key.architecture for version in versions})
    table = schema.application_version
    for version in versions:
        failpoints.reach("version.tombstone:before", as_engine_error)
        connection.execute(
            table.update().where(_is(version.key)).values(removed_at=schema.to_text(now))
        )
        failpoints.reach("version.tombstone:after")
        repository = repository_of(version.key.name)
        manifests.remove(connection, repository, version.digest, schema.to_text(now))
    for name, number in sorted({(version.key.name, version.key.number) for version in versions}):
        _rebuild_index(connection, name, number, now)
    audit.append(connection, [_record("removed", version, actor) for version in versions], now)
    feed.append(connection, [_change("removed", version, actor, now) for version in versions])


def withdraw_quarantined(connection: sa.Connection, now: datetime) -> list[Version]:
    """Remove what is published although it is in quarantine, as a restored backup may have it.

    The last step of a transaction. Returns what was removed.
    """
    held = {item.key for item in quarantine.held(connection)}
    versions = [version for version in _live(connection) if version.key in held]
    remove_versions(connection, versions, None, now)
    return versions


def published_with(
    connection: sa.Connection, repository: str, digests: Iterable[Digest]
) -> list[Version]:
    """Return the published versions of a repository whose manifest is one of `digests`."""
    wanted = set(digests)
    name = application_of(repository)
    if name is None or not wanted:
        return []
    return [version for version in _live(connection, name) if version.digest in wanted]


def is_reserved(connection: sa.Connection, repository: str, tag: str) -> bool:
    """Whether only the registry itself sets this tag: that of a version or of an index."""
    name = application_of(repository)
    if name is None or parse_version_tag(tag) is None:
        return False
    table = schema.application_version
    query = sa.select(table.c.number).where(table.c.name == name).limit(1)
    return connection.execute(query).first() is not None


def _rebuild_index(connection: sa.Connection, name: str, number: int, now: datetime) -> None:
    """Make the tag `<number>` the index over what is published of it, or drop it."""
    repository, tag = repository_of(name), str(number)
    former = manifests.tagged(connection, repository, tag)
    table = schema.manifest
    entries = []
    for version in _live(connection, name, number):
        query = sa.select(table.c.size).where(
            table.c.repository == repository, table.c.digest == str(version.digest)
        )
        size = connection.execute(query).scalar_one()
        entries.append((version.key.architecture, version.digest, size))
    digest = None
    if entries:
        content = build_index(entries)
        digest = Digest.of(content)
        parsed = parse_manifest(content, INDEX)
        manifests.put(connection, repository, digest, content, parsed, now=schema.to_text(now))
        manifests.set_tag(connection, repository, tag, digest)
    else:
        manifests.remove_tag(connection, repository, tag)
    # An index that nothing names any more has no use; one under another tag is somebody's.
    if former is None or former == digest:
        return
    if not manifests.tags_of(connection, repository, former):
        manifests.remove(connection, repository, former, schema.to_text(now))


def _live(
    connection: sa.Connection, name: str | None = None, number: int | None = None
) -> list[Version]:
    table = schema.application_version
    query = table.select().where(table.c.removed_at.is_(None))
    if name is not None:
        if not valid_application(name):
            return []
        query = query.where(table.c.name == name)
    if number is not None:
        query = query.where(table.c.number == number)
    order = (table.c.name, table.c.number, table.c.architecture)
    return [_version(row._mapping) for row in connection.execute(query.order_by(*order)).all()]


def _recorded(connection: sa.Connection, key: Key) -> Recorded | None:
    row = connection.execute(schema.application_version.select().where(_is(key))).first()
    if row is None:
        return None
    removed = schema.to_moment(row.removed_at) if row.removed_at else None
    return Recorded(_version(row._mapping), removed)


def _recorded_by(connection: sa.Connection, publisher: str) -> list[Recorded]:
    """Return everything that a publisher published, the removed too, by key."""
    table = schema.application_version
    query = table.select().where(table.c.published_by == publisher)
    order = (table.c.name, table.c.number, table.c.architecture)
    return [
        Recorded(
            _version(row._mapping), schema.to_moment(row.removed_at) if row.removed_at else None
        )
        for row in connection.execute(query.order_by(*order)).all()
    ]


def _is(key: Key) -> sa.ColumnElement[bool]:
    table = schema.application_version
    return sa.and_(
        table.c.name == key.name,
        table.c.number == key.number,
        table.c.architecture == key.architecture,
    )


def _version(row: Any) -> Version:
    return Version(
        key=Key(row["name"], row["number"], row["architecture"]),
        digest=Digest.parse(row["digest"]),
        size=row["size"],
        tags=tuple(row["tags"]),
        published_by=row["published_by"],
        published_at=schema.to_moment(row["published_at"]),
    )


def _grouped(versions: Iterable[Version]) -> list[Application]:
    groups: dict[str, list[Version]] = {}
    for version in versions:
        groups.setdefault(version.key.name, []).append(version)
    return [Application(name, tuple(group)) for name, group in groups.items()]


def _name_of(actor: Entry | None) -> str:
    return str(actor.fingerprint) if actor else ""


def _record(kind: feed.Kind, version: Version, actor: Entry | None) -> Record:
    detail = {"digest": str(version.digest), "size": version.size}
    if kind == "removed":
        detail["published-by"] = version.published_by
    return Record(f"version-{kind}", str(version.key), audit.by_caller(actor), detail)


def _held(what: str, held: Held) -> Record:
    detail = {"digest": str(held.digest), "published-by": held.published_by}
    return Record(f"version-{what}", str(held.key), detail=detail)


def _change(
    kind: feed.Kind, version: Version, actor: Entry | None, now: datetime
) -> feed.NewChange:
    return feed.NewChange(
        kind, version.key, version.digest, version.size, version.tags, now, _name_of(actor)
    )
