from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from aar import schema
from aar.errors import BlobUnknown, NameUnknown
from aar.janitor import Counts
from aar.registry import Registry
from regkit.oci.application import Key
from regkit.oci.digest import Digest
from support.images import DEFAULT_FILES, content_of, push, push_blobs
from support.postgresql import OpenRegistry

NOW = datetime.now(timezone.utc)
LATER = NOW + timedelta(hours=25)
KEY = Key("candy", 0, "amd64")


@pytest.fixture
def registry(tmp_path: Path, open_registry: OpenRegistry) -> Iterator[Registry]:
    with open_registry(tmp_path) as registry:
        yield registry


def files(registry: Registry) -> set[Digest]:
    return {info.digest for info in registry.blobs.blobs()}


def rows(registry: Registry) -> dict[str, str]:
    with registry.database.read() as connection:
        found = connection.execute(sa.select(schema.blob.c.digest, schema.blob.c.state)).all()
    return {row.digest: row.state for row in found}


def mark(registry: Registry, digest: Digest) -> None:
    """Leave a blob as a janitor does that dies between its two transactions."""
    with registry.database.write() as connection:
        connection.execute(schema.repository_blob.delete())
        connection.execute(
            schema.blob.update()
            .where(schema.blob.c.digest == str(digest))
            .values(state=schema.DELETING)
        )


def test_nothing_to_do(registry: Registry):
    assert registry.janitor.run(LATER) == Counts()


def test_uploads_that_rest_are_given_up_and_others_stay(registry: Registry):
    stale, fresh = registry.uploads.start("candy"), registry.uploads.start("candy")
    registry.uploads.append("candy", stale.id, [b"x"])
    (path,) = (registry.home / "data" / "uploads").glob(f"{stale.id}*")
    day_ago = (NOW - timedelta(hours=25)).timestamp()
    os.utime(path, (day_ago, day_ago))
    assert registry.janitor.run(NOW).uploads == 1
    assert [info.name[:32] for info in registry.blobs.staged()] == [fresh.id]


def test_an_upload_being_written_is_left_alone(registry: Registry):
    upload = registry.uploads.start("candy")
    counts: list[Counts] = []

    def chunks() -> Iterator[bytes]:
        yield b"x"
        counts.append(registry.janitor.run(LATER))
        yield b"y"

    assert registry.uploads.append("candy", upload.id, chunks()).size == 2
    assert counts == [Counts()]


def test_what_a_manifest_refers_to_stays(registry: Registry):
    push(registry, KEY)
    before = files(registry)
    assert registry.janitor.run(LATER) == Counts()
    assert files(registry) == before
    assert len(before) == 3


def test_an_unused_blob_goes_after_its_period_only(registry: Registry):
    (digest,) = push_blobs(registry, "candy", b"unused")
    assert registry.janitor.run(NOW + timedelta(hours=23)) == Counts()
    assert registry.janitor.run(LATER) == Counts(links=1, marked=1, blobs=1, bytes=6)
    assert files(registry) == set()
    assert rows(registry) == {}
    with pytest.raises(NameUnknown):
        registry.repositories.blob_size("candy", digest)
    assert registry.janitor.run(LATER) == Counts()


def test_the_blobs_of_a_removed_version_go_unless_another_uses_them(registry: Registry):
    push(registry, KEY)
    push(registry, Key("candy", 1, "amd64"), {"manifest.yaml": DEFAULT_FILES["manifest.yaml"]})
    registry.applications.remove("candy", 0, actor=None)
    assert registry.janitor.run(NOW) == Counts()
    counts = registry.janitor.run(LATER)
    assert (counts.links, counts.blobs) == (2, 2)
    assert registry.blobs.size(Digest.of(DEFAULT_FILES["app.apk"])) is None
    assert registry.blobs.size(Digest.of(DEFAULT_FILES["manifest.yaml"])) is not None


def test_a_removal_begins_a_new_period(registry: Registry):
    push(registry, KEY)
    old = schema.to_text(NOW - timedelta(days=30))
    with registry.database.write() as connection:
        connection.execute(schema.repository_blob.update().values(touched=old))
        connection.execute(schema.blob.update().values(touched=old))
    registry.applications.remove("candy", actor=None)
    assert registry.janitor.run(NOW).links == 0
    assert len(files(registry)) == 3


def test_a_blob_stays_while_another_repository_has_it(registry: Registry):
    push(registry, KEY)
    apk = Digest.of(DEFAULT_FILES["app.apk"])
    registry.repositories.mount("other", apk, "candy")
    counts = registry.janitor.run(LATER)
    assert (counts.links, counts.marked) == (1, 0)
    assert registry.repositories.blob_size("candy", apk) == len(DEFAULT_FILES["app.apk"])
    with pytest.raises(NameUnknown):
        registry.repositories.blob_size("other", apk)


def test_a_marked_blob_that_is_pushed_again_stays(registry: Registry):
    (digest,) = push_blobs(registry, "candy", b"content")
    mark(registry, digest)
    with pytest.raises(NameUnknown):
        registry.repositories.blob_size("candy", digest)
    push_blobs(registry, "candy", b"content")
    assert registry.janitor.run(NOW).blobs == 0
    assert rows(registry) == {str(digest): schema.PRESENT}
    assert content_of(registry, "candy", digest) == b"content"


def test_an_upload_sealed_before_the_sweep_and_published_after_it_keeps_its_blob(
    registry: Registry,
):
    """The race itself: the janitor drops the old copy while a new one is on its way."""
    (digest,) = push_blobs(registry, "candy", b"content")
    mark(registry, digest)
    counts: list[Counts] = []

    def chunks() -> Iterator[bytes]:
        yield b"content"
        counts.append(registry.janitor.run(NOW))

    registry.uploads.put("candy", digest, chunks())
    assert counts[0].blobs == 1
    assert content_of(registry, "candy", digest) == b"content"
    assert registry.janitor.run(NOW) == Counts()


def test_a_run_finishes_what_a_killed_one_began(registry: Registry):
    (digest,) = push_blobs(registry, "candy", b"content")
    mark(registry, digest)
    registry.blobs.delete(digest)  # The content is gone, the row not yet.
    assert registry.janitor.run(NOW).blobs == 1
    assert rows(registry) == {}


def test_content_without_a_row_goes_after_the_period(registry: Registry):
    (kept,) = push_blobs(registry, "candy", b"kept")
    digest = Digest.of(b"orphan")
    with registry.blobs.stage("u1") as staged:
        staged.write(b"orphan")
        staged.seal(digest)
        staged.publish()
    registry.repositories.mount("other", kept, "candy")
    assert registry.janitor.run(NOW).orphans == 0
    assert digest in files(registry)
    assert registry.janitor.run(LATER).orphans == 1
    assert files(registry) == set()


def test_many_blobs_go_in_batches(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aar.janitor.BATCH", 3)
    push_blobs(registry, "candy", *(str(number).encode() for number in range(7)))
    push(registry, KEY)
    counts = registry.janitor.run(LATER)
    assert (counts.marked, counts.blobs, counts.bytes, counts.orphans) == (7, 7, 7, 0)
    assert len(files(registry)) == 3


def test_one_runner_at_a_time(registry: Registry):
    push_blobs(registry, "candy", b"unused")
    with (registry.home / "data" / "janitor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert registry.janitor.run(LATER) == Counts(ran=False)
    assert registry.janitor.run(LATER).blobs == 1


def test_a_deleted_blob_goes_after_its_period(registry: Registry):
    (digest,) = push_blobs(registry, "candy", b"x")
    push_blobs(registry, "candy", b"y")
    registry.repositories.delete_blob("candy", digest, actor=None)
    with pytest.raises(BlobUnknown):
        registry.repositories.blob_size("candy", digest)
    assert registry.janitor.run(NOW).blobs == 0
    assert registry.janitor.run(LATER).blobs == 2
