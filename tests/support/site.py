"""A site without its service: database, blobs, catalogue and sync engine, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ams import schema
from ams.catalogue import Application, Catalogue
from ams.options import Options
from ams.packages import read
from ams.sync.door import Connect
from ams.sync.engine import Engine
from regkit.blobs import BlobStore, FileBlobStore
from support.postgresql import SQLITE, Databases

URL = "https://registry.test:3000"


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def tick(self, **amount: float) -> None:
        self.now += timedelta(**amount)


class Site:
    """One management service's state under `root`; `engine` talks through `connect`."""

    def __init__(
        self,
        root: Path,
        connect: Connect,
        mode: str = "pull",
        url: str = URL,
        fingerprint: str = "ab" * 32,
        architecture: str = "amd64",
        databases: Databases = SQLITE,
        blobs: BlobStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`clock`: that of the catalogue too, which otherwise has the real one."""
        self.root = root
        self.clock = clock or Clock()
        self.pauses: list[float] = []
        self.database = databases.open(root / "ams.db", "ams:migrations")
        self.blobs = blobs or FileBlobStore(root / "data")
        self.options = Options(self.database)
        own_clock = {"clock": clock} if clock else {}
        self.catalogue = Catalogue(
            self.database, self.blobs, architecture, self.options, **own_clock
        )
        self.engine = Engine(
            self.database,
            self.blobs,
            self.catalogue,
            self.options,
            connect,
            own_fingerprint=lambda: "cd" * 32,
            clock=self.clock,
            chance=lambda: 0.0,
            pause=self.pauses.append,
        )
        self.set("registry.url", url)
        self.set("registry.fingerprint", fingerprint)
        self.set("registry.mode", mode)

    def set(self, name: str, value: str) -> None:
        """Store an option's canonical text, as if the certificate were imported already."""
        with self.database.write() as connection:
            connection.execute(schema.option.delete().where(schema.option.c.name == name))
            connection.execute(schema.option.insert().values(name=name, value=value))

    def package(self, name: str, files: Mapping[str, bytes], tags: tuple[str, ...] = ()) -> Path:
        """Write a package directory."""
        folder = self.root / "packages" / name
        folder.mkdir(parents=True, exist_ok=True)
        listed = "".join(f"\n  - {tag}" for tag in tags)
        text = f"name: {name}\ninstance-type: a4.3\n" + (f"tags:{listed}\n" if tags else "")
        (folder / "manifest.yaml").write_text(text)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def create(self, name: str, files: Mapping[str, bytes]) -> Application:
        """Create a local application; it is published at once."""
        with read(self.package(name, files), self.blobs) as package:
            return self.catalogue.create(package)

    def update(self, name: str, files: Mapping[str, bytes]) -> None:
        """Add a version; it is published at once."""
        with read(self.package(name, files), self.blobs) as package:
            self.catalogue.update(name, package)

    def versions(self) -> set[str]:
        """The versions on this site, as `name number-architecture`."""
        return {str(version.key) for version in self.catalogue.versions()}

    def close(self) -> None:
        self.engine.stop()
        self.database.close()
