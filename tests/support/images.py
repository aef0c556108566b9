"""Application versions pushed into a registry of the same process, and who pushes them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from aar.registry import Registry
from aar_interface import Fingerprint, Role
from regkit.oci.application import ApplicationImage, Key, PackageFile, build
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST
from regkit.oci.names import repository_of
from regkit.trust import Entry

DEFAULT_FILES = {"manifest.yaml": b"name: candy\n", "app.apk": b"not really an apk"}


def actor(*architectures: str, role: Role = Role.PUBLISHER, fingerprint: str = "a" * 64) -> Entry:
    """Return a row of the trust store as the doors hand it to the rules."""
    now = datetime.now(timezone.utc)
    return Entry(
        fingerprint=Fingerprint.parse(fingerprint),
        key_hash="b" * 64,
        role=role,
        certificate="",
        common_name="ams",
        issued=now,
        expires=now + timedelta(days=1),
        added=now,
        last_used=None,
        origin="manual",
        revoked=None,
        architectures=architectures,
    )


def image_of(
    key: Key, files: dict[str, bytes] | None = None, tags: tuple[str, ...] = ()
) -> ApplicationImage:
    """Return the version `key` with these files."""
    contents = DEFAULT_FILES if files is None else files
    return ApplicationImage(
        key,
        {"name": key.name, "tags": list(tags)},
        tuple(PackageFile(path, Digest.of(data), len(data)) for path, data in contents.items()),
    )


def push_blobs(registry: Registry, repository: str, *contents: bytes) -> list[Digest]:
    """Push contents as blobs."""
    digests = [Digest.of(content) for content in contents]
    for digest, content in zip(digests, contents, strict=True):
        registry.uploads.put(repository, digest, [content])
    return digests


def push(
    registry: Registry,
    key: Key,
    files: dict[str, bytes] | None = None,
    tags: tuple[str, ...] = (),
    by: Entry | None = None,
) -> Digest:
    """Push a version as a publisher does; return its manifest's digest."""
    contents = DEFAULT_FILES if files is None else files
    config, manifest = build(image_of(key, contents, tags))
    repository = repository_of(key.name)
    push_blobs(registry, repository, config, *contents.values())
    pushed = registry.repositories.put_manifest(repository, key.tag, manifest, MANIFEST, actor=by)
    return pushed.digest


def content_of(registry: Registry, repository: str, digest: Digest) -> bytes:
    """Return a blob that the repository says it has, all of it."""
    content = b"".join(registry.repositories.read_blob(digest))
    assert registry.repositories.blob_size(repository, digest) == len(content)
    return content
