"""What there is: applications and versions as values. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ams.catalogue import lookups, rules, store
from ams.catalogue.export import tar_bz2
from ams.catalogue.records import Application, Export, LocalVersion
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import NotFound
from regkit.oci.application import ApplicationImage, Key


class Reading:
    """The reading half of the catalogue.

    Wherever an application is named, its id or its name will do; NotFound is raised when there is
    none.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def list(self, filters: Mapping[str, str] | None = None) -> list[Application]:
        """Return the applications that pass all `filters` (see `rules.FILTERS`), by name."""
        fits = rules.matcher(filters or {})
        with self._database.read() as connection:
            return [app for app in store.applications(connection) if fits(app)]

    def search(self, filters: Mapping[str, str]) -> Sequence[str]:
        """Return the ids of the applications that `list` would, in one query."""
        fits = rules.matcher(filters)
        with self._database.read() as connection:
            described = not rules.DESCRIBED.isdisjoint(filters)
            return [
                app.id for app in store.summaries(connection, described=described) if fits(app)
            ]

    def load(self, ids: Sequence[str]) -> Sequence[Application]:
        """Return the applications with these ids that are still there, in their order."""
        with self._database.read() as connection:
            return store.by_ids(connection, ids)

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
