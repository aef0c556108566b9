"""The applications of a site and what may be done with them.

Every change is one transaction: after a crash at any moment a version is there whole or not at
all. The order is always: claim the blobs (so that no garbage collection takes them), store them,
commit the rows that make the version visible. That all of them are there is looked up in the
transaction, or right before it where that means to wait for a network: a claim made anew keeps
them until then (see `garbage`). Numbers, immutability, publishing and withdrawal
are ruled here; the network is not known here, nor is anything of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

from ams.catalogue import fields, garbage, imports, leftovers, lookups, rules, store
from ams.catalogue.fields import INHIBIT
from ams.catalogue.reading import Reading
from ams.catalogue.records import (
    Application,
    Change,
    Garbage,
    Version,
    new_id,
)
from ams.options import Options
from ams.packages import Package, renewed
from regkit import failpoints, logs
from regkit.blobs import BlobStore
from regkit.database import Database, as_engine_error
from regkit.errors import Conflict, Invalid, Unavailable
from regkit.oci import application as oci
from regkit.oci.application import ApplicationImage, Key, PackageFile
from regkit.oci.digest import Digest

log = logs.get("ams.catalogue")


Listener = Callable[[Change], None]
"""Told of each change after it is committed; must be quick."""

Doomed = Mapping[Digest, str]
"""Blobs that are here, but being deleted, and by which garbage collection."""

Check = Callable[[Application], object]
"""Called with an application as it is right before a change, in its transaction; may refuse it."""


def _unchecked(_application: Application) -> None:
    """Refuse nothing."""


class Catalogue(Reading):
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
        super().__init__(database, blobs)
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

    def update(self, id_or_name: str, package: Package, check: Check = _unchecked) -> Version:
        """Add `package` as the next version; what was set by `change` gives way to its manifest.

        Raises Invalid when the manifest has another name, Conflict when the content is exactly
        that of the newest version: then there is nothing to do.
        """
        self._check_update(self.get(id_or_name), package)

        def accept(application: Application) -> dict[str, Any]:
            check(application)
            self._check_update(application, package)
            return {INHIBIT: True} if application.inhibits_updates else {}

        return self._add_version(id_or_name, package, accept)

    def change(
        self, id_or_name: str, wanted: Mapping[str, Any], check: Check = _unchecked
    ) -> Application:
        """Change single fields (see `fields.apply`), some of which make a new version.

        Raises Invalid for values that no manifest may have, Conflict when the application was
        changed by somebody else meanwhile.
        """
        before = self.get(id_or_name)
        rules.require_local(before.name, before.origin)
        outcome = fields.apply(before.latest.manifest, before.fields, wanted)

        def accept(application: Application) -> dict[str, Any]:
            check(application)
            if fields.apply(application.latest.manifest, application.fields, wanted) != outcome:
                raise Conflict(f"application {application.name} was changed meanwhile: try again")
            return outcome.fields

        if outcome.manifest is not None:
            with self._database.read() as connection:
                files = store.files(connection, before.id, before.latest.number)
            with renewed(files, outcome.manifest, self._blobs) as package:
                self._add_version(before.id, package, accept)
        else:
            self._set_fields(before.id, accept, changed=outcome.changed)
        return self.get(before.id)

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

    def delete(self, id_or_name: str, *, force: bool = False, check: Check = _unchecked) -> None:
        """Remove an application; what was published is withdrawn from the registry.

        `force` also removes an imported one, which comes back with the next update as long as
        the registry has it.
        """
        now = self._clock()
        with self._database.write() as connection:
            application = lookups.existing(connection, id_or_name)
            check(application)
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

    def claim(self, digests: Iterable[Digest]) -> Doomed:
        """Keep blobs from garbage collection for an hour, whether they are here yet or not.

        Call it before deciding which blobs an import still has to fetch. Returns those that must
        be stored anew, although they are here: they are being deleted already.
        """
        digests = list(digests)
        with self._database.write() as connection:
            store.claim(connection, digests, self._clock())
            return store.doomed(connection, digests)

    def keep(self, digests: Iterable[Digest], stored_anew: Doomed) -> None:
        """Claim blobs for another hour, after the claim that gave `stored_anew`.

        Raises Unavailable when one was given up in between (storing took over an hour): nothing
        of what was stored may be relied on then.
        """
        if self.claim(digests).items() - stored_anew.items():
            raise Unavailable("some of its content was cleared away meanwhile: try again")

    def prove(self, digests: Iterable[Digest]) -> None:
        """Move damaged ones of these blobs aside, if no version refers to them: see `leftovers`.

        Call it before deciding which blobs an import still has to fetch. Raises Unavailable.
        """
        leftovers.prove(self._database, self._blobs, digests)

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
        self._require_blobs(parsed.files, committing=False)
        with self._database.write() as connection:
            failpoints.reach("import.commit:before", as_engine_error)
            application, changed = imports.add(
                connection,
                lambda: self._require_blobs(parsed.files, committing=True),
                parsed,
                manifest,
                config,
                replace=replace,
                now=self._clock(),
            )
        failpoints.reach("import.commit:after")
        if changed:
            self._announce("version-imported", application, image.key.number)
        return rules.find_version(application, image.key.number)

    def remove_imported(self, key: Key) -> None:
        """Remove an imported version because the registry did; the application with its last.

        Does nothing when it isn't here, or is a local one.
        """
        with self._database.write() as connection:
            failpoints.reach("import.remove:before", as_engine_error)
            application = imports.remove(connection, key, self._clock())
        failpoints.reach("import.remove:after")
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
        digests = {file.digest for file in package.files}
        doomed = self.claim(digests)
        self.prove(digests - doomed.keys())
        package.publish(doomed)
        if self._blobs.remote:
            self.keep(digests, doomed)
        self._require_blobs(package.files, committing=False)

    def _require_blobs(self, files: Iterable[PackageFile], *, committing: bool) -> None:
        """Raise Unavailable unless all content is stored; where that may be asked, see above."""
        if committing != self._blobs.remote:
            lookups.require_blobs(self._blobs, files)

    def _add_version(
        self, id_or_name: str, package: Package, accept: Callable[[Application], dict[str, Any]]
    ) -> Version:
        """Add the next version; `accept` may refuse it, and says which fields lie over it."""
        auto_publish = bool(self._options.get("application.auto_publish"))
        keep = int(self._options.get("application.max_published_versions"))
        self._store(package)
        now = self._clock()
        with self._database.write() as connection:
            application = lookups.local(connection, id_or_name)
            kept = accept(application)
            number = store.own_next_number(connection, application.id)
            image = self._image(package, number)
            self._add(connection, application.id, image, published=auto_publish)
            store.touch(connection, application.id, now, next_number=number + 1, fields=kept)
            application = lookups.existing(connection, application.id)
            if auto_publish:
                self._revoke_surplus(connection, application, keep, number, now)
        self._announce("version-created", application, number)
        return rules.find_version(application, number)

    def _set_fields(
        self, id_: str, accept: Callable[[Application], dict[str, Any]], *, changed: bool
    ) -> None:
        with self._database.write() as connection:
            application = lookups.local(connection, id_)
            kept = accept(application)
            if changed:
                store.touch(connection, id_, self._clock(), fields=kept)
        if changed:
            self._announce("application-updated", application)

    def _add(
        self,
        connection: sa.Connection,
        application_id: str,
        image: ApplicationImage,
        *,
        published: bool,
    ) -> None:
        self._require_blobs(image.files, committing=True)
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
        which = {} if number is None else {"version": number}
        log.info(event, application=application.name, id=application.id, **which)
        change = Change(event, application.id, application.name, number)
        for listener in tuple(self._listeners):
            listener(change)
