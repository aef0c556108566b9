"""The applications of a site and what may be done with them.

Every change is one transaction: after a crash at any moment a version is there whole or not at
all. The order is always: claim the blobs (so that no garbage collection takes them), store them,
commit the rows that make the version visible. Numbers, immutability, publishing and withdrawal
are ruled here; the network is not known here, nor is anything of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import sqlalchemy as sa

from ams import schema
from ams.catalogue import garbage, imports, lookups, rules, store
from ams.catalogue.export import tar_bz2
from ams.catalogue.records import (
    Application,
    Export,
    Garbage,
    LocalVersion,
    Version,
    new_id,
)
from ams.options import Options
from ams.packages import Package
from regkit import logs
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Conflict, Invalid, NotFound
from regkit.oci import application as oci
from regkit.oci.application import ApplicationImage, Key
from regkit.oci.digest import Digest

log = logs.get("ams.catalogue")


Listener = Callable[[str, str, str], None]
"""Told of each change after it is committed, as (event, application id, name); must be quick.

Events: `application-` created or deleted; `version-` created, published, revoked, deleted,
imported or removed.
"""


class Catalogue:
    """The applications and versions of this site.

    Wherever an application is named, its id or its name will do; NotFound is raised when there is
    none, Forbidden when the registry owns it and the change isn't the registry's.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        architecture: str,
        options: Options,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Keep rows in `database` and files in `blobs`.

        `architecture` is this machine's, in Debian's names; local versions are for it, and only
        such are imported.
        """
        self._database = database
        self._blobs = blobs
        self._architecture = architecture
        self._options = options
        self._clock = clock
        self._listeners: list[Listener] = []

    @property
    def architecture(self) -> str:
        """The architecture that this site serves."""
        return self._architecture

    def listen(self, listener: Listener) -> None:
        """Call `listener` after every change that this process commits."""
        self._listeners.append(listener)

    # Reading

    def list(self, filters: Mapping[str, str] | None = None) -> list[Application]:
        """Return the applications that pass all `filters` (see `rules.FILTERS`), by name."""
        fits = rules.matcher(filters or {})
        with self._database.read() as connection:
            return [app for app in store.applications(connection) if fits(app)]

    def get(self, id_or_name: str) -> Application:
        """Return one application."""
        with self._database.read() as connection:
            return lookups.existing(connection, id_or_name)

    def versions(self) -> list[LocalVersion]:
        """Return every version on this site, local and imported, by key."""
        with self._database.read() as connection:
            return store.local_versions(connection)

    def image(self, key: Key) -> tuple[bytes, bytes, ApplicationImage]:
        """Return a version's OCI manifest, its config, and both parsed. Raises NotFound."""
        with self._database.read() as connection:
            application = lookups.by_name(connection, key.name)
            version = application and application.version(key.number)
            if application is None or version is None or version.architecture != key.architecture:
                raise NotFound(f"there is no version {key}")
            content = store.content(connection, application.id, key.number)
            files = store.files(connection, application.id, key.number)
        if content is None:
            raise NotFound(f"there is no version {key}")
        return *content, ApplicationImage(key, version.manifest, tuple(files))

    def export(self, id_or_name: str, number: int) -> Export:
        """Return a version as a `.tar.bz2` that is made while it is read."""
        with self._database.read() as connection:
            application = lookups.existing(connection, id_or_name)
            version = rules.find_version(application, number)
            files = store.files(connection, application.id, number)
        return Export(
            filename=f"{application.name}_{number}_{version.architecture}.tar.bz2",
            size=None,
            content_size=version.size,
            chunks=tar_bz2(files, self._blobs),
        )

    # Local applications

    def create(self, package: Package, *, vm: bool = False) -> Application:
        """Make a new application whose first version is `package`.

        Its number is 0, or goes on where a deleted application of the same name had ended.
        Raises Conflict when the name is taken.
        """
        name = package.manifest.name
        with self._database.read() as connection:
            lookups.require_free(connection, name)
        auto_publish = bool(self._options.get("application.auto_publish"))
        self._store(package)
        now, id_ = self._clock(), new_id()
        with self._database.write() as connection:
            lookups.require_free(connection, name)
            number = store.next_number(connection, name)
            store.insert_application(
                connection,
                id_,
                name,
                origin="local",
                vm=vm,
                next_number=number + 1,
                now=now,
            )
            self._add(connection, id_, self._image(package, number), published=auto_publish)
            application = lookups.existing(connection, id_)
        self._announce("application-created", application)
        return application

    def update(self, id_or_name: str, package: Package) -> Version:
        """Add `package` as the next version.

        Raises Invalid when the manifest has another name, Conflict when the content is exactly
        that of the newest version: then there is nothing to do.
        """
        self._check_update(self.get(id_or_name), package)
        auto_publish = bool(self._options.get("application.auto_publish"))
        keep = int(self._options.get("application.max_published_versions"))
        self._store(package)
        now = self._clock()
        with self._database.write() as connection:
            application = lookups.existing(connection, id_or_name)
            self._check_update(application, package)
            number = connection.execute(
                sa.select(schema.application.c.next_number).where(
                    schema.application.c.id == application.id
                )
            ).scalar_one()
            image = self._image(package, number)
            self._add(connection, application.id, image, published=auto_publish)
            store.touch(connection, application.id, now, next_number=number + 1)
            application = lookups.existing(connection, application.id)
            if auto_publish:
                self._revoke_surplus(connection, application, keep, number, now)
        self._announce("version-created", application, number)
        return rules.find_version(application, number)

    def publish(self, id_or_name: str, number: int) -> Version:
        """Publish a version; the oldest published ones beyond the limit are revoked.

        Publishing what is published already changes nothing.
        """
        keep = int(self._options.get("application.max_published_versions"))
        now = self._clock()
        with self._database.write() as connection:
            application = lookups.local(connection, id_or_name)
            version = rules.find_version(application, number)
            if version.published:
                return version
            store.set_published(connection, application.id, [number], published=True)
            store.restore(connection, lookups.key(application, version))
            store.touch(connection, application.id, now)
            application = lookups.existing(connection, application.id)
            self._revoke_surplus(connection, application, keep, number, now)
        self._announce("version-published", application, number)
        return rules.find_version(application, number)

    def revoke(self, id_or_name: str, number: int) -> Version:
        """Take a version back; it is withdrawn from the registry too.

        Revoking what isn't published changes nothing.
        """
        now = self._clock()
        with self._database.write() as connection:
            application = lookups.local(connection, id_or_name)
            version = rules.find_version(application, number)
            if not version.published:
                return version
            self._revoke(connection, application, [number], now)
            application = lookups.existing(connection, application.id)
        self._announce("version-revoked", application, number)
        return rules.find_version(application, number)

    def delete(self, id_or_name: str, *, force: bool = False) -> None:
        """Remove an application; what was published is withdrawn from the registry.

        `force` also removes an imported one, which comes back with the next update as long as
        the registry has it.
        """
        now = self._clock()
        with self._database.write() as connection:
            application = lookups.existing(connection, id_or_name)
            lookups.require_deletable(application, force=force)
            if not application.immutable:
                for version in application.versions:
                    lookups.withdraw(connection, application, version, now)
            store.delete_application(connection, application)
        self._announce("application-deleted", application)

    def delete_version(self, id_or_name: str, number: int, *, force: bool = False) -> None:
        """Remove one version. Raises Conflict for the only one; `force` as in `delete`."""
        now = self._clock()
        with self._database.write() as connection:
            application = lookups.existing(connection, id_or_name)
            version = rules.find_version(application, number)
            lookups.require_deletable(application, force=force)
            rules.require_another_version(
                application.name, number, (v.number for v in application.versions)
            )
            if not application.immutable:
                lookups.withdraw(connection, application, version, now)
            store.delete_version(connection, application.id, number)
            store.touch(connection, application.id, now)
        self._announce("version-deleted", application, number)

    # Imported applications: for the sync engine only

    def claim(self, digests: Iterable[Digest]) -> None:
        """Keep blobs from garbage collection for an hour, whether they are here yet or not.

        Call it before deciding which blobs an import still has to fetch.
        """
        with self._database.write() as connection:
            store.claim(connection, digests, self._clock())

    def import_version(
        self, image: ApplicationImage, manifest: bytes, config: bytes, *, replace: bool = False
    ) -> Version:
        """Add a version of the registry, whose blobs are all in the blob store already.

        It keeps its number and is published and immutable. Importing it again changes nothing.
        Raises Conflict when a local application has the name, or when the key is there with
        another digest (unless `replace`), Invalid for another architecture or when the parts don't
        belong together, Unavailable when a blob is missing (fetch it and try again).
        """
        parsed = imports.check(image.key, manifest, config, self._architecture)
        with self._database.write() as connection:
            application, changed = imports.add(
                connection,
                self._blobs,
                parsed,
                manifest,
                config,
                replace=replace,
                now=self._clock(),
            )
        if changed:
            self._announce("version-imported", application, image.key.number)
        return rules.find_version(application, image.key.number)

    def remove_imported(self, key: Key) -> None:
        """Remove an imported version because the registry did; the application with its last.

        Does nothing when it isn't here, or is a local one.
        """
        with self._database.write() as connection:
            application = imports.remove(connection, key, self._clock())
        if application is not None:
            self._announce("version-removed", application, key.number)

    # Housekeeping

    def collect_garbage(
        self,
        grace: timedelta = garbage.GRACE,
        staged_grace: timedelta = garbage.STAGED_GRACE,
    ) -> Garbage:
        """Remove blobs without a version and abandoned staged files (see `garbage`)."""
        return garbage.collect(self._database, self._blobs, self._clock(), grace, staged_grace)

    # Parts

    def _image(self, package: Package, number: int) -> ApplicationImage:
        key = Key(package.manifest.name, number, self._architecture)
        return ApplicationImage(key, package.manifest.to_dict(), package.files)

    def _check_update(self, application: Application, package: Package) -> None:
        rules.require_local(application.name, application.origin)
        if package.manifest.name != application.name:
            raise Invalid(
                f"the package is of application {package.manifest.name}, not of "
                f"{application.name}: a name can't be changed by an update"
            )
        latest = application.latest
        image = self._image(package, latest.number)
        image = replace(image, key=replace(image.key, architecture=latest.architecture))
        if Digest.of(oci.build(image)[1]) == latest.digest:
            raise Conflict(
                f"version {latest.number} of application {application.name} has exactly this "
                "content already: there is nothing to update"
            )

    def _store(self, package: Package) -> None:
        with self._database.write() as connection:
            store.claim(connection, (file.digest for file in package.files), self._clock())
        package.publish()

    def _add(
        self,
        connection: sa.Connection,
        application_id: str,
        image: ApplicationImage,
        *,
        published: bool,
    ) -> None:
        lookups.require_blobs(self._blobs, image)
        config, manifest = oci.build(image)
        store.insert_version(
            connection,
            application_id,
            image,
            manifest,
            config,
            published=published,
            created=self._clock(),
        )

    def _revoke(
        self,
        connection: sa.Connection,
        application: Application,
        numbers: list[int],
        now: datetime,
    ) -> None:
        for number in numbers:
            lookups.withdraw(connection, application, rules.find_version(application, number), now)
        store.set_published(connection, application.id, numbers, published=False)
        store.touch(connection, application.id, now)

    def _revoke_surplus(
        self,
        connection: sa.Connection,
        application: Application,
        keep: int,
        spare: int,
        now: datetime,
    ) -> None:
        published = [v.number for v in application.versions if v.published]
        if numbers := rules.surplus(published, keep, spare):
            self._revoke(connection, application, numbers, now)

    def _announce(self, event: str, application: Application, number: int | None = None) -> None:
        fields = {} if number is None else {"version": number}
        log.info(event, application=application.name, id=application.id, **fields)
        for listener in list(self._listeners):
            listener(event, application.id, application.name)
