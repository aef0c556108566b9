"""The registry put together over one state root. It holds no rule, and speaks no HTTP."""

from __future__ import annotations

import os
from functools import cached_property, partial
from pathlib import Path

from aar import audit, deployment, schema
from aar.applications import Applications
from aar.audit import Audit
from aar.feed import Feed
from aar.janitor import Janitor
from aar.repositories import Repositories
from aar.settings import Settings
from aar.uploads import Uploads
from regkit.blobs import BlobStore
from regkit.database import Database
from regkit.errors import Unavailable
from regkit.leases import Lease
from regkit.storage import authorities, open_blobs
from regkit.trust import TrustStore
from regkit.upkeep import locks

MIGRATIONS = "aar:migrations"

PATIENCE = 2.0
"""Seconds to wait for a restore that is about to end."""


def database_url(home: Path, settings: Settings) -> str:
    """Return where the database of the state root `home` is."""
    return settings.database.url or f"sqlite:///{home / 'data' / 'aar.db'}"


def blob_root(home: Path, settings: Settings) -> Path:
    """Return the folder of the blobs of the state root `home`."""
    return settings.storage.fs.root_directory or home / "data"


class Registry:
    """Opens the state root `home`, makes what is missing, and migrates the database.

    Several processes may hold the same one. `foreign`: also when the database is another
    registry's than the root was used with, which `adopt` then makes its own.

    Attributes: home, settings, database, blobs, audit, trust, feed, uploads, repositories,
    applications, janitor.
    """

    def __init__(
        self, home: Path, settings: Settings | None = None, *, foreign: bool = False
    ) -> None:
        """Raises Invalid for settings that can't work, Unavailable for a root that can't."""
        self.home = home
        self.settings = settings or Settings()
        data = home / "data"
        root = blob_root(home, self.settings)
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.blobs: BlobStore = open_blobs(self.settings.storage, root)
        except OSError as error:
            raise Unavailable(
                f"{error.filename or data} can't be used ({error.strerror}): check its owner and "
                "storage.fs.root-directory"
            ) from error
        self._lock = locks.take(home / locks.STATE, shared=True, seconds=PATIENCE)
        if self._lock is None:
            raise Unavailable("the state is being restored: try again when that is done")
        try:
            self.database = Database(database_url(home, self.settings))
            try:
                name = self.database.name
                check = partial(deployment.check_database, home, name=name)
                self.database.migrate(MIGRATIONS, None if foreign else check)
                if not foreign:
                    deployment.remember(home, self.database)
            except BaseException:
                self.database.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise
        self.audit = Audit(self.database)
        self.trust = TrustStore(self.database, schema.trust, audit.trust_changed)
        self.feed = Feed(self.database)
        limits = self.settings.limits
        self.uploads = Uploads(
            self.database,
            self.blobs,
            max_size=limits.upload_size,
            max_open=limits.uploads_per_certificate,
        )
        self.repositories = Repositories(self.database, self.blobs)
        self.applications = Applications(self.database)
        self.janitor = Janitor(
            self.database,
            self.blobs,
            home / locks.JANITOR,
            uploads_after=self.settings.janitor.uploads_after,
            blobs_after=self.settings.janitor.blobs_after,
            lease=Lease(self.database, schema.lease, "janitor") if self.database.shared else None,
        )

    @cached_property
    def storage_authorities(self) -> str:
        """In PEM, who may certify the bucket's server to clients; empty for public authorities.

        Read once: the registry's own client of the bucket doesn't notice a new file either.
        """
        return authorities(self.settings.storage)

    def check_storage(self) -> None:
        """Check that the blob store is this registry's. Raises Invalid, Unavailable."""
        deployment.check_storage(self.database, self.blobs)

    @property
    def identity(self) -> str:
        """What tells this database's registry from every other."""
        with self.database.read() as connection:
            return deployment.identity(connection) or ""

    def remember(self) -> bool:
        """Let the state root remember its registry, once there is something to lose.

        Returns whether it does.
        """
        return deployment.remember(self.home, self.database)

    def adopt(self) -> str:
        """Make root and blob store belong to this database's registry; return its identity."""
        return deployment.adopt(self.home, self.database, self.blobs)

    def close(self) -> None:
        """Close database and blob store; idempotent."""
        self.database.close()
        self.blobs.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
