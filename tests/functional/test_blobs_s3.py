"""What only the store in a bucket promises: large uploads, other processes, what crashes leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from regkit.blobs import StorageDown
from regkit.blobs.s3 import S3BlobStore, layout, sessions
from regkit.blobs.s3.staged import MAX_PARTS, part_size
from regkit.errors import Conflict, Invalid, NotFound, TooLarge
from regkit.oci.digest import Digest
from regkit.storage import S3Storage
from support import engines
from support.radosgw import SECRET_KEY, RadosGateway

MIB = 1024 * 1024
LARGE = os.urandom(MIB) * 29  # three parts and a rest
LATER = timedelta(days=1)


@pytest.fixture
def gateway() -> RadosGateway:
    return engines.radosgw()


@pytest.fixture
def settings(gateway: RadosGateway) -> dict[str, Any]:
    return gateway.settings(gateway.new_prefix())


Open = Callable[[], S3BlobStore]


@pytest.fixture
def reopen(settings: dict[str, Any]) -> Iterator[Open]:
    opened: list[S3BlobStore] = []

    def make() -> S3BlobStore:
        opened.append(S3BlobStore(S3Storage.model_validate(settings)))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Open) -> S3BlobStore:
    return reopen()


def keep(store: S3BlobStore, content: bytes, name: str = "u1") -> Digest:
    digest = Digest.of(content)
    with store.stage(name) as staged:
        staged.write(content)
        staged.seal(digest)
        staged.publish()
    return digest


def now() -> datetime:
    return datetime.now(timezone.utc)


@pytest.mark.parametrize("size", [8 * MIB, 9 * MIB, len(LARGE)])
@pytest.mark.parametrize("cut", [1, 8 * MIB - 1, 8 * MIB])
def test_a_large_upload_goes_on_in_another_process(reopen: Open, size: int, cut: int):
    content = LARGE[:size]
    with reopen().stage("u1") as staged:
        staged.write(content[:cut])
        staged.sync()
    other = reopen()
    with other.stage("u1", create=False) as staged:
        assert staged.size == cut
        staged.write(content[cut:])
        assert staged.seal(Digest.of(content)) == size
        staged.publish()
    assert b"".join(other.read(Digest.of(content))) == content


@pytest.mark.parametrize("size", [1, 5 * MIB, 8 * MIB, 11 * MIB, 24 * MIB])
def test_truncating_into_what_was_sent(store: S3BlobStore, size: int):
    with store.stage("u1") as staged:
        staged.write(LARGE)
        staged.truncate(size)
        assert staged.size == size
        staged.write(b"!")
        staged.seal(Digest.of(LARGE[:size] + b"!"))
        staged.publish()
    assert store.size(Digest.of(LARGE[:size] + b"!")) == size + 1


def test_sealed_content_can_be_continued(store: S3BlobStore):
    with store.stage("u1") as staged:
        staged.write(LARGE)
        staged.seal(Digest.of(LARGE))
        staged.write(b"more")
        staged.seal(Digest.of(LARGE + b"more"))
        staged.publish()
    assert store.size(Digest.of(LARGE)) is None
    assert store.size(Digest.of(LARGE + b"more")) == len(LARGE) + 4


WRITER = """
import json, sys
from regkit.blobs.s3 import S3BlobStore
from regkit.storage import S3Storage
from regkit.oci.digest import Digest
store = S3BlobStore(S3Storage.model_validate(json.load(sys.stdin)))
staged = store.stage("u1")
staged.write(b"x" * 9 * 2**20)
staged.sync()
if sys.argv[1] == "sealed":
    staged.seal(Digest.of(b"x" * 9 * 2**20))
if sys.argv[1] == "published":
    staged.seal(Digest.of(b"x" * 9 * 2**20))
    staged.publish()
print("saved", flush=True)
sys.stdin.close()
__import__("time").sleep(600)
"""


@pytest.mark.parametrize("how", ["writing", "sealed", "published"])
def test_kill_9_lets_the_next_writer_in_at_once(store: S3BlobStore, settings, how: str):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(settings))
        process.stdin.close()
        assert process.stdout.readline() == "saved\n"
        with pytest.raises(Conflict):
            store.stage("u1")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    content = b"x" * 9 * MIB
    with store.stage("u1", create=False) as staged:
        assert staged.size == len(content)
        staged.write(b"y")
        staged.seal(Digest.of(content + b"y"))
        staged.publish()
    assert store.size(Digest.of(content + b"y")) == len(content) + 1
    # What was published before stays, whatever became of the upload.
    assert (store.size(Digest.of(content)) is not None) == (how == "published")
    store.tidy(now() + LATER)
    assert (store.size(Digest.of(content)) is not None) == (how == "published")


def test_a_writer_that_stopped_is_succeeded_and_finds_out(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
):
    late = reopen().stage("u1")
    late.write(b"kept ")
    late.sync()
    late.write(b"too late")
    # As on another machine whose clock doesn't matter: its renewals have ended for long.
    monkeypatch.setattr(sessions, "HOLD", timedelta(seconds=-60))
    with reopen().stage("u1") as staged:
        monkeypatch.undo()
        assert staged.size == 5
        with pytest.raises(Conflict):
            late.sync()
        late.close()
        staged.write(b"on time")
        staged.seal(Digest.of(b"kept on time"))
        staged.publish()
    with pytest.raises(NotFound):
        reopen().stage("u1", create=False)


def test_what_crashes_leave_is_tidied_and_nothing_else(store, gateway, settings):
    prefix = settings["prefix"]
    digest = keep(store, b"content")
    damaged = keep(store, b"damaged", "u2")
    reader = store.read(damaged)
    assert store.set_aside(damaged, reader.version)
    reader.close()
    with store.stage("u3") as staged:
        staged.write(LARGE)
        staged.sync()
    client = gateway.client()
    # Content that was never pointed at, a rest without its upload, parts of nobody.
    for key in ("data/0123456789abcdef-gone", "uploads/gone/000000000001.1"):
        client.put_object(Bucket="blobs", Key=prefix + key, Body=b"lost")
    client.create_multipart_upload(Bucket="blobs", Key=f"{prefix}data/0123456789abcdef-none")
    before = set(gateway.keys(prefix))
    assert store.tidy(now() - LATER).count == 0
    assert store.tidy(now() + LATER, dry_run=True).count == 3
    assert set(gateway.keys(prefix)) == before
    assert store.tidy(now() + LATER).count == 3
    assert len(before - set(gateway.keys(prefix))) == 2
    assert b"".join(store.read(digest)) == b"content"
    with store.stage("u3", create=False) as staged:
        staged.seal(Digest.of(LARGE))
        staged.publish()
    assert len([key for key in gateway.keys(prefix) if key.startswith("damaged/")]) == 1
    uploads = client.list_multipart_uploads(Bucket="blobs", Prefix=prefix)
    assert "Uploads" not in uploads
    client.close()


def test_content_that_was_pushed_twice_is_kept_once(store, gateway, settings):
    digest = keep(store, b"same", "u1")
    keep(store, b"same", "u2")
    assert len(gateway.keys(settings["prefix"] + "data/")) == 2
    assert store.tidy(now() + LATER).count == 2
    assert b"".join(store.read(digest)) == b"same"
    assert store.tidy(now() + LATER).count == 0
    assert len(gateway.keys(settings["prefix"] + "data/")) == 1
    assert b"".join(store.read(digest)) == b"same"


def test_a_late_deletion_spares_what_came_since(store: S3BlobStore):
    digest = keep(store, b"content", "u1")
    delete = store.doom(digest)
    keep(store, b"content", "u2")
    delete()
    assert b"".join(store.read(digest)) == b"content"


def test_what_is_about_to_be_committed_is_not_doomed(store: S3BlobStore):
    digest = Digest.of(b"content")
    with store.stage("u1") as staged:
        staged.write(b"content")
        staged.seal(digest)
        staged.publish()
        store.doom(digest)()
        assert store.size(digest) == 7
    store.doom(digest)()
    assert store.size(digest) is None


def test_a_server_that_is_gone_is_told_and_comes_back(store: S3BlobStore, gateway):
    digest = keep(store, LARGE)
    reader = store.read(digest, chunk=MIB)
    staged = store.stage("u2")
    staged.write(b"kept")
    staged.sync()
    gateway.kill()
    try:
        with pytest.raises(StorageDown, match="can't be reached") as caught:
            store.size(digest)
        assert caught.value.retry_after
        with pytest.raises(StorageDown):
            staged.write(LARGE)
        with pytest.raises(StorageDown):
            staged.sync()
        staged.close()
    finally:
        gateway.start()
    assert b"".join(reader) == LARGE
    with store.stage("u2", create=False) as again:  # what was synced, and by nobody else
        assert again.size == 4


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"bucket": "absent"}, Invalid, "there is no bucket 'absent'"),
        ({"secret-access-key": "wrong"}, StorageDown, "refuses access"),
        ({"access-key": "unknown"}, StorageDown, "refuses access"),
        ({"ca-file": None}, StorageDown, "can't be reached .*SSLError"),
    ],
)
def test_wrong_settings_are_told_apart(settings, change, error, says: str):
    store = S3BlobStore(S3Storage.model_validate({**settings, **change}))
    with pytest.raises(error, match=says) as caught:
        store.check()
    assert SECRET_KEY not in str(caught.value)
    store.close()


def test_a_foreign_object_is_no_blob(store, gateway, settings):
    client = gateway.client()
    client.put_object(Bucket="blobs", Key=settings["prefix"] + "blobs/sha256/README", Body=b"")
    client.close()
    assert list(store.blobs()) == []
    assert list(store.strays()) == ["sha256/README"]


def test_parts_grow_so_that_any_file_fits():
    assert part_size(1) == part_size(2000) == 8 * MIB
    assert part_size(2001) == 16 * MIB
    assert sum(map(part_size, range(1, MAX_PARTS + 1))) == 484.375 * 1024 * MIB
    with pytest.raises(TooLarge):
        part_size(MAX_PARTS + 1)


@pytest.mark.parametrize(
    "key", ["blobs/sha256/ab/x/1-a", "blobs/md5/ab/abc/1-a", "blobs/x", "blobs/sha256/../a/b"]
)
def test_names_of_foreign_objects_are_not_read_as_pointers(key: str):
    assert layout.blob(key) is None
