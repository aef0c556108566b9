"""A package: a validated manifest and its files, staged in the blob store.

Reading is all or nothing: whatever is wrong with a package, nothing of it is left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ams.packages import manifest as manifests
from ams.packages.archive import Limits, members
from ams.packages.manifest import FILE_NAME, Manifest
from ams.packages.staging import Progress, Staging
from regkit import yamlsafe
from regkit.blobs import BlobStore
from regkit.errors import Invalid
from regkit.oci.application import PackageFile
from regkit.oci.digest import Digest

EXTRA_DATA = "extra-data"


class Package:
    """What was read. A context manager: leaving it drops what the catalogue didn't take."""

    def __init__(
        self, manifest: Manifest, files: tuple[PackageFile, ...], staging: Staging
    ) -> None:
        self.manifest = manifest
        self.files = files
        """Sorted by path, `manifest.yaml` included."""
        self._staging = staging

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def publish(self, anew: Collection[Digest] = ()) -> int:
        """Turn the files into blobs; returns the bytes that the store didn't have.

        What is in `anew` counts as not there. Raises Unavailable when it wasn't read for this
        package.
        """
        return self._staging.publish(anew)

    def close(self) -> None:
        """Drop what is staged; idempotent."""
        self._staging.close()

    def __enter__(self) -> Package:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read(
    source: Path | BinaryIO,
    blobs: BlobStore,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Package:
    """Read a package from a directory, an archive's path or an open seekable archive.

    Its files are staged in `blobs`; use the result as a context manager. One folder at the top of
    an archive may wrap the package. `progress` gets the bytes read so far and may raise to stop.
    Raises Invalid, TooLarge or NoSpace with nothing left behind.
    """
    limits = limits or Limits()
    staging = Staging(blobs, progress)
    try:
        files: list[PackageFile] = []
        found: dict[str, bytes] = {}
        for member in members(source, limits):
            chunks = member.chunks
            head = bytearray()
            if member.path.split("/")[-1] == FILE_NAME and member.path.count("/") <= 1:
                chunks = _keeping_head(chunks, head)
            allowed = min(limits.file_size, limits.total_size - staging.size)
            files.append(staging.add(member.path, member.mode, chunks, member.size, allowed))
            if head:
                found[member.path] = bytes(head)
        wrapped = not (isinstance(source, Path) and source.is_dir())
        files, raw = _unwrapped(files, found, wrapped)
        manifest = manifests.parse(raw)
        _check_extra_data(manifest, files)
    except BaseException:
        staging.close()
        raise
    return Package(manifest, tuple(sorted(files, key=lambda file: file.path)), staging)


def renewed(files: Iterable[PackageFile], manifest: Manifest, blobs: BlobStore) -> Package:
    """Return a package of `files`, whose content is stored already, with another manifest.

    Raises NoSpace.
    """
    raw = manifests.render(manifest)
    staging = Staging(blobs)
    mode = next((file.mode for file in files if file.path == FILE_NAME), 0o644)
    made = staging.add(FILE_NAME, mode, [raw], len(raw), yamlsafe.MAX_BYTES)
    kept = [file for file in files if file.path != FILE_NAME]
    return Package(manifest, tuple(sorted([*kept, made], key=lambda file: file.path)), staging)


def _keeping_head(chunks: Iterable[bytes], head: bytearray) -> Iterator[bytes]:
    """Pass `chunks` on, keeping so much of them that too large a manifest shows."""
    for chunk in chunks:
        head += chunk[: yamlsafe.MAX_BYTES + 1 - len(head)]
        yield chunk


def _unwrapped(
    files: list[PackageFile], found: dict[str, bytes], may_wrap: bool
) -> tuple[list[PackageFile], bytes]:
    """Return the files with their paths inside the package, and the manifest's bytes."""
    paths = {file.path for file in files}
    if FILE_NAME in paths:
        return files, found.get(FILE_NAME, b"")
    tops = {path.split("/")[0] for path in paths}
    top = next(iter(tops), "")
    if may_wrap and len(tops) == 1 and f"{top}/{FILE_NAME}" in paths:
        inside = [
            PackageFile(file.path[len(top) + 1 :], file.digest, file.size, file.mode)
            for file in files
        ]
        return inside, found.get(f"{top}/{FILE_NAME}", b"")
    raise Invalid(f"the package has no {FILE_NAME}: put one at its top")


def _check_extra_data(manifest: Manifest, files: list[PackageFile]) -> None:
    there = {
        parts[1]
        for file in files
        if (parts := file.path.split("/"))[0] == EXTRA_DATA and len(parts) > 1
    }
    missing = [name for name in manifest.extra_data or {} if name not in there]
    if missing:
        faults = "; ".join(
            f"extra-data.{name}: there is no {EXTRA_DATA}/{name}" for name in missing
        )
        raise Invalid(f"{FILE_NAME}: {faults}")
