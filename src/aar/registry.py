"""The registry put together over one state root. It holds no rule, and speaks no HTTP."""

from __future__ import annotations

from pathlib import Path

from aar import audit, schema
from aar.applications import Applications
from aar.audit import Audit
from aar.feed import Feed
from aar.janitor import Janitor
from aar.repositories import Repositories
from aar.settings import Settings
from aar.uploads import Uploads
from regkit.blobs import BlobStore, FileBlobStore
from regkit.blobs.files import Blocking
from regkit.database import Database
from regkit.errors import Unavailable
from regkit.trust import TrustStore


class Registry:
    """Opens the state root `home`, makes what is missing, and migrates the database.

    Several processes may hold the same one. `blocking` runs what blocks for long (fsync), under
    gevent in its thread pool.

    Attributes: home, settings, database, blobs, audit, trust, feed, uploads, repositories,
    applications, janitor.
    """

    def __init__(
        self, home: Path, settings: Settings | None = None, blocking: Blocking | None = None
    ) -> None:
        """Raises Invalid for settings that can't work, Unavailable for a root that can't."""
        self.home = home
        self.settings = settings or Settings()
        data = home / "data"
        root = self.settings.storage.fs.root_directory or data
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.blobs: BlobStore = (
                FileBlobStore(root) if blocking is None else FileBlobStore(root, blocking)
            )
        except OSError as error:
            raise Unavailable(
                f"{error.filename or data} can't be used ({error.strerror}): check its owner and "
                "storage.fs.root-directory"
            ) from error
        self.database = Database(self.settings.database.url or f"sqlite:///{data / 'aar.db'}")
        try:
            self.database.migrate("aar:migrations")
        except BaseException:
            self.database.close()
            raise
        self.audit = Audit(self.database)
        self.trust = TrustStore(self.database, schema.trust, audit.trust_changed)
        self.feed = Feed(self.database)
        self.uploads = Uploads(self.database, self.blobs)
        self.repositories = Repositories(self.database, self.blobs)
        self.applications = Applications(self.database)
        self.janitor = Janitor(
            self.database,
            self.blobs,
            data / "janitor.lock",
            uploads_after=self.settings.janitor.uploads_after,
            blobs_after=self.settings.janitor.blobs_after,
        )

    def close(self) -> None:
        """Close the database; idempotent."""
        self.database.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
