"""What is served: incompressible blobs on disk, and applications made of them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from regkit.oci import application
from regkit.oci.application import ApplicationImage, Key, PackageFile
from regkit.oci.digest import Digest
from regkit.oci.names import repository_of

MIB = 1024 * 1024


@dataclass(frozen=True)
class Blob:
    """A file with its digest."""

    path: Path
    digest: Digest
    size: int


@dataclass(frozen=True)
class Application:
    """A version as it is pushed: blobs, the config among them, and the manifest."""

    key: Key
    blobs: tuple[Blob, ...]
    config: Blob
    manifest: bytes

    @property
    def repository(self) -> str:
        return repository_of(self.key.name)

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)


def blob(folder: Path, name: str, size: int) -> Blob:
    """Write a blob of random content; no two are alike."""
    path, hasher, left = folder / name, hashlib.sha256(), size
    block = os.urandom(MIB)
    with path.open("wb") as file:
        while left:
            # A head that differs, so that no block is there twice.
            piece = (left.to_bytes(8, "big") + block[8:])[:left]
            hasher.update(piece)
            file.write(piece)
            left -= len(piece)
    return Blob(path, Digest("sha256", hasher.hexdigest()), size)


def small_blob(folder: Path, content: bytes) -> Blob:
    """Write a blob of given content."""
    digest = Digest.of(content)
    path = folder / digest.hex
    path.write_bytes(content)
    return Blob(path, digest, len(content))


def make_application(
    folder: Path, name: str, blobs: tuple[Blob, ...], number: int = 0, architecture: str = "amd64"
) -> Application:
    """Make the version `number` of an application with these blobs as its files."""
    files = tuple(
        PackageFile(f"files/{index}", one.digest, one.size) for index, one in enumerate(blobs)
    )
    key = Key(name, number, architecture)
    described = {"name": name, "version": f"1.{number}", "instance-type": "a4.3", "tags": ["game"]}
    config, manifest = application.build(ApplicationImage(key, described, files))
    return Application(key, blobs, small_blob(folder, config), manifest)
