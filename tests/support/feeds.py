"""A registry in memory behind the sync's own door (`ams.sync.door.Door`).

It keeps state like the real one: versions, blobs per application, uploads, a dense feed under an
epoch. Faults are switched on by fields; whatever a test didn't prepare raises AssertionError.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ams.sync.door import BlobStream, Hello
from ams.sync.feed import Change, Cursor, EpochChanged, FeedRefused, Page, went_back
from regkit.errors import Conflict, Forbidden, NotFound, ServiceError, Unavailable
from regkit.oci.application import ApplicationImage, Key, PackageFile, build, read
from regkit.oci.digest import Digest
from regkit.oci.manifests import MANIFEST, parse_manifest

PIECE = 1000


def parts(
    key: Key, files: Mapping[str, bytes], tags: Sequence[str] = ()
) -> tuple[bytes, bytes, dict[Digest, bytes]]:
    """The manifest, the config and the blobs of a version with these files."""
    image = ApplicationImage(
        key,
        {"name": key.name, "instance-type": "a4.3", "tags": list(tags)},
        tuple(PackageFile(path, Digest.of(data), len(data)) for path, data in files.items()),
    )
    config, manifest = build(image)
    return manifest, config, {Digest.of(data): data for data in files.values()}


@dataclass
class RegistrySimulator:
    """One registry. `doors` made from it by `connect` all see this state."""

    url: str = "https://registry.test:3000"
    role: str = "publisher"
    trusted: bool = True
    epoch: str = field(default_factory=lambda: secrets.token_hex(16))
    page_size: int = 1000
    rows: list[Change] = field(default_factory=list)
    versions: dict[Key, bytes] = field(default_factory=dict)
    blobs: dict[str, dict[Digest, bytes]] = field(default_factory=dict)
    down: ServiceError | None = None
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which the next transfers are cut, one entry each."""
    faults: dict[Digest, Callable[[], ServiceError]] = field(default_factory=dict)
    """What asking for this manifest or blob raises."""
    before_put: Callable[[], None] | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)
    opened: int = 0

    # What a test does to it

    def publish(
        self, name: str, number: int = 0, architecture: str = "amd64", **more: object
    ) -> Key:
        """Put a version there. `files` (path to bytes) and `tags` may be given."""
        key = Key(name, number, architecture)
        files = more.get("files", {"app.apk": f"apk of {key}".encode()})
        assert isinstance(files, dict)
        tags = more.get("tags", ())
        assert isinstance(tags, (tuple, list))
        manifest, config, blobs = parts(key, files, tags)
        self.blobs.setdefault(name, {}).update({**blobs, Digest.of(config): config})
        self._publish(key, manifest)
        return key

    def remove(self, *keys: Key) -> None:
        """Take versions away."""
        for key in keys:
            digest = Digest.of(self.versions.pop(key))
            self._append("removed", key, digest, ())

    def restore(self, rows: int) -> None:
        """Go back to the first `rows` changes without a new epoch: an unannounced old backup."""
        del self.rows[rows:]
        held = {}
        for row in self.rows:
            if row.kind == "published":
                held[row.key] = row.digest
            else:
                held.pop(row.key, None)
        self.versions = {key: m for key, m in self.versions.items() if key in held}

    def reset(self) -> None:
        """Become a newly installed registry."""
        self.epoch = secrets.token_hex(16)
        self.rows.clear()
        self.versions.clear()
        self.blobs.clear()

    def connect(self, urls: Sequence[str], fingerprint: str) -> RegistrySimulator:
        """Fit `ams.sync.door.Connect`."""
        assert self.url in urls, urls
        assert len(fingerprint) == 64
        self.opened += 1
        return self

    def count(self, *what: str) -> int:
        """How often this was asked."""
        return sum(asked[: len(what)] == what for asked in self.asked)

    # The door

    def close(self) -> None:
        self.opened -= 1
        assert self.opened >= 0

    def hello(self) -> Hello:
        self._ask("hello")
        return Hello(self.trusted, self.role, self.epoch, frozenset({"changes"}))

    def changes(self, since: Cursor | None, wait: int = 0) -> Page:
        self._ask("changes", str(since))
        assert wait == 0, "this registry has no long-poll"
        self._require_trust()
        head = Cursor(self.epoch, len(self.rows))
        if since is None:
            since = Cursor(self.epoch, 0)
        if since.epoch != self.epoch:
            raise EpochChanged(self.epoch)
        if since.seq > head.seq:
            raise FeedRefused(went_back(head, since))
        return Page(head, tuple(self.rows[since.seq : since.seq + self.page_size]))

    def manifest(self, key: Key, digest: Digest) -> bytes:
        self._ask("manifest", str(key))
        self._require_trust()
        self._fail(digest)
        content = self.versions.get(key)
        if content is None or Digest.of(content) != digest:
            raise NotFound(f"the registry has no manifest {digest}")
        return content

    def small_blob(self, key: Key, digest: Digest, size: int) -> bytes:
        self._ask("small_blob", str(key))
        content = self._blob(key, digest)
        assert len(content) == size
        return content

    @contextmanager
    def blob(self, key: Key, digest: Digest, start: int = 0) -> Iterator[BlobStream]:
        self._ask("blob", str(digest), str(start))
        yield BlobStream(start, self._cut(self._blob(key, digest), start))

    def has_blob(self, key: Key, digest: Digest) -> bool:
        self._ask("has_blob", str(digest))
        return digest in self.blobs.get(key.name, {})

    def put_small_blob(self, key: Key, digest: Digest, content: bytes) -> None:
        self._ask("put_blob", str(digest))
        self._require_publisher()
        assert Digest.of(content) == digest
        self.blobs.setdefault(key.name, {})[digest] = content

    def begin_upload(self, key: Key) -> _Upload:
        self._ask("begin_upload", str(key))
        self._require_publisher()
        return _Upload(self, key)

    def put_manifest(self, key: Key, content: bytes) -> None:
        self._ask("put_manifest", str(key))
        self._require_publisher()
        if self.before_put is not None:
            self.before_put()
        manifest = parse_manifest(content, MANIFEST)
        there = self.blobs.get(key.name, {})
        assert all(blob.digest in there for blob in manifest.blobs), "a blob wasn't pushed"
        known = {row.key: row.digest for row in self.rows}
        if known.get(key, Digest.of(content)) != Digest.of(content):
            raise Conflict(f"{key} was published with other content")
        if key not in self.versions:
            self._publish(key, content)

    def delete(self, name: str, number: int | None = None, architecture: str = "") -> None:
        self._ask("delete", name, str(number), architecture)
        self._require_publisher()
        gone = [
            key
            for key in self.versions
            if key.name == name
            and number in (None, key.number)
            and architecture in ("", key.architecture)
        ]
        if not gone:
            raise NotFound(f"the registry has no {name}")
        self.remove(*gone)

    # Inside

    def _publish(self, key: Key, manifest: bytes) -> None:
        parsed = parse_manifest(manifest, MANIFEST)
        assert parsed.config is not None
        image = read(parsed, self.blobs[key.name][parsed.config.digest])
        self.versions[key] = manifest
        self._append("published", key, Digest.of(manifest), image.tags, image.size)

    def _append(self, kind: str, key: Key, digest: Digest, tags: tuple[str, ...], size: int = 0):
        assert kind in ("published", "removed")
        row = Change(len(self.rows) + 1, "published", key, digest, size, tags)
        self.rows.append(row if kind == "published" else replace(row, kind="removed"))

    def _ask(self, *what: str) -> None:
        self.asked.append(what)
        if self.down is not None:
            raise self.down

    def _require_trust(self) -> None:
        if not self.trusted:
            raise Forbidden("not trusted")

    def _require_publisher(self) -> None:
        self._require_trust()
        if self.role != "publisher":
            raise Forbidden("clients may only read")

    def _fail(self, digest: Digest) -> None:
        if digest in self.faults:
            raise self.faults[digest]()

    def _blob(self, key: Key, digest: Digest) -> bytes:
        self._require_trust()
        self._fail(digest)
        content = self.blobs.get(key.name, {}).get(digest)
        if content is None:
            raise NotFound(f"the registry has no blob {digest}")
        return content

    def _cut(self, content: bytes, start: int) -> Iterator[bytes]:
        limit = self.cut_after.pop(0) if self.cut_after else None
        sent = 0
        for at in range(start, len(content), PIECE):
            if limit is not None and sent >= limit:
                raise Unavailable("the connection was cut")
            yield content[at : at + PIECE]
            sent += PIECE


class _Upload:
    def __init__(self, registry: RegistrySimulator, key: Key) -> None:
        self._registry = registry
        self._key = key
        self._content = bytearray()

    def send(self, chunks: Iterator[bytes], start: int, size: int) -> None:
        self._registry._ask("send", str(start), str(size))
        assert start == len(self._content)
        limits = self._registry.cut_after
        limit = limits.pop(0) if limits else None
        for chunk in chunks:
            if limit is not None:
                self._content += chunk[:limit]
                raise Unavailable("the connection was cut")
            self._content += chunk
        assert len(self._content) == size

    def offset(self) -> int:
        self._registry._ask("offset")
        return len(self._content)

    def finish(self, digest: Digest) -> None:
        self._registry._ask("finish", str(digest))
        content = bytes(self._content)
        assert Digest.of(content) == digest
        self._registry.blobs.setdefault(self._key.name, {})[digest] = content
