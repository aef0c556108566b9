"""A registry with many versions, written straight into its tables and blob folder.

Pushing 100,000 versions would take most of an hour; this takes seconds. The rows are those that
`aar.applications.publish` and `aar.uploads` write, the documents those that `regkit.oci` builds,
so that every read, poll and sync finds what it would find otherwise. `check` holds it to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from aar import feed, schema
from aar.registry import Registry
from regkit.oci import application
from regkit.oci.application import ApplicationImage, Key, PackageFile, build_index
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, MANIFEST, parse_manifest
from regkit.oci.names import repository_of

PER_APPLICATION = 10
FILE_SIZE = 1024
BATCH = 2000
"""Versions per transaction."""


@dataclass(frozen=True)
class Entry:
    """One version of a catalogue, with everything that belongs to it."""

    image: ApplicationImage
    config: bytes
    manifest: bytes
    files: tuple[bytes, ...]

    @property
    def key(self) -> Key:
        return self.image.key

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)


def entries(
    count: int, prefix: str = "app", architecture: str = "amd64", first: int = 0
) -> Iterator[Entry]:
    """Yield `count` versions, ten to an application; the same arguments give the same bytes.

    Each has a small file of its own and shares another with its application.
    """
    created = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for index in range(first, first + count):
        name = f"{prefix}-{index // PER_APPLICATION}"
        number = index % PER_APPLICATION
        own = f"{name} {number} ".encode().ljust(FILE_SIZE, b".")
        shared = name.encode().ljust(FILE_SIZE, b"-")
        files = {"app.apk": own, "extra/shared.bin": shared}
        described = {
            "name": name,
            "version": f"1.{number}",
            "instance-type": "a4.3",
            "tags": ["game"],
        }
        packed = tuple(
            PackageFile(path, Digest.of(content), len(content)) for path, content in files.items()
        )
        image = ApplicationImage(Key(name, number, architecture), described, packed, created)
        config, manifest = application.build(image)
        yield Entry(image, config, manifest, tuple(files.values()))


def fill(home: Path, made: Iterator[Entry]) -> int:
    """Publish versions in the registry whose state root is `home`; return how many.

    A running registry takes them up as what another process has committed: each batch at once.
    """
    total = 0
    with Registry(home) as registry:
        while batch := list(islice(made, BATCH)):
            _store_blobs(home / "data" / "blobs", batch)
            with registry.database.write() as connection:
                _publish(connection, batch)
            total += len(batch)
    return total


def check(home: Path, sample: Entry, total: int) -> None:
    """See that the registry itself finds what `fill` wrote. Raises AssertionError."""
    with Registry(home) as registry:
        assert registry.feed.head().seq == total
        repository = repository_of(sample.key.name)
        stored = registry.repositories.manifest(repository, sample.key.tag)
        assert stored.content == sample.manifest
        for content in (sample.config, *sample.files):
            digest = Digest.of(content)
            assert registry.repositories.blob_size(repository, digest) == len(content)
            assert b"".join(registry.repositories.read_blob(digest)) == content
        listed = registry.applications.get(sample.key.name).versions
        assert sample.digest in {version.digest for version in listed}


def store_blob(root: Path, content: bytes, source: Path | None = None) -> None:
    """Write a blob where `regkit.blobs.files` has it, without its care for power cuts.

    Or link it from the registry whose state root is `source`, which is quicker; blobs are never
    written to again.
    """
    digest = Digest.of(content)
    folder = root / digest.algorithm / digest.hex[:2]
    path = folder / digest.hex
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if source is None:
            path.write_bytes(content)
        else:
            place = path.relative_to(root)
            path.hardlink_to(source / "data" / "blobs" / place)


def _store_blobs(root: Path, batch: list[Entry]) -> None:
    for entry in batch:
        for content in (entry.config, *entry.files):
            store_blob(root, content)


def _publish(connection: sa.Connection, batch: list[Entry]) -> None:
    now = datetime.now(timezone.utc)
    text = schema.to_text(now)
    blobs: dict[str, int] = {}
    links: set[tuple[str, str]] = set()
    manifests, references, tags, versions = [], [], [], []
    for entry in batch:
        repository, key = repository_of(entry.key.name), entry.key
        parts = {str(file.digest): file.size for file in entry.image.files}
        parts[str(Digest.of(entry.config))] = len(entry.config)
        blobs |= parts
        links |= {(repository, digest) for digest in parts}
        index = build_index([(key.architecture, entry.digest, len(entry.manifest))])
        indexed = [str(entry.digest)]
        for content, kind, wanted, tag in (
            (entry.manifest, MANIFEST, sorted(parts), key.tag),
            (index, INDEX, indexed, key.index_tag),
        ):
            digest = str(Digest.of(content))
            manifests.append(_manifest_row(repository, digest, content, kind, text))
            references += [
                {"repository": repository, "manifest": digest, "digest": one} for one in wanted
            ]
            tags.append({"repository": repository, "name": tag, "digest": digest})
        versions.append(_version_row(entry, text))
    _insert_new(connection, schema.blob, _blob_rows(blobs, text))
    link_rows = [{"repository": r, "digest": d, "touched": text} for r, d in sorted(links)]
    _insert_new(connection, schema.repository_blob, link_rows)
    for table, rows in (
        (schema.manifest, manifests),
        (schema.reference, references),
        (schema.tag, tags),
        (schema.application_version, versions),
    ):
        connection.execute(table.insert(), rows)
    changes = [
        feed.NewChange(
            "published", entry.key, entry.digest, entry.image.size, entry.image.tags, now, ""
        )
        for entry in batch
    ]
    feed.append(connection, changes)


def _insert_new(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, except those whose key is there already."""
    connection.execute(table.insert().prefix_with("OR IGNORE"), rows)


def _blob_rows(blobs: dict[str, int], text: str) -> list[dict[str, Any]]:
    return [
        {"digest": digest, "size": size, "state": schema.PRESENT, "touched": text}
        for digest, size in blobs.items()
    ]


def _manifest_row(
    repository: str, digest: str, content: bytes, media_type: str, text: str
) -> dict[str, Any]:
    parsed = parse_manifest(content, media_type)
    return {
        "repository": repository,
        "digest": digest,
        "media_type": media_type,
        "content": content,
        "size": len(content),
        "subject": None,
        "artifact_type": parsed.effective_artifact_type,
        "annotations": dict(parsed.annotations),
        "pushed_at": text,
    }


def _version_row(entry: Entry, text: str) -> dict[str, Any]:
    return {
        "name": entry.key.name,
        "number": entry.key.number,
        "architecture": entry.key.architecture,
        "digest": str(entry.digest),
        "size": entry.image.size,
        "tags": list(entry.image.tags),
        "published_by": "",
        "published_at": text,
        "removed_at": None,
    }
