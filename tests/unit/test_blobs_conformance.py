"""The rules that every blob store keeps, whatever it stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from regkit.blobs import BlobStore, DigestMismatch, FileBlobStore
from regkit.blobs.s3 import S3BlobStore
from regkit.errors import Conflict, Invalid, NotFound
from regkit.oci.digest import Digest
from regkit.storage import S3Storage
from support import engines

Open = Callable[[], BlobStore]


@pytest.fixture(params=["files", "s3"])
def store_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def reopen(store_kind: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store anew, as another process would."""
    opened: list[BlobStore] = []
    if store_kind == "s3":
        gateway = engines.radosgw()
        settings = S3Storage.model_validate(gateway.settings(gateway.new_prefix()))
        make: Open = lambda: S3BlobStore(settings)  # noqa: E731
    else:
        make = lambda: FileBlobStore(tmp_path)  # noqa: E731

    def open_one() -> BlobStore:
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Open) -> BlobStore:
    return reopen()


def keep(store: BlobStore, content: bytes, name: str = "u1") -> Digest:
    digest = Digest.of(content)
    with store.stage(name) as staged:
        staged.write(content)
        assert staged.seal(digest) == len(content)
        staged.publish()
    return digest


def test_a_published_blob_is_there_whole_and_no_longer_staged(store: BlobStore, reopen: Open):
    digest = keep(store, b"content")

    for view in (store, reopen()):
        assert view.size(digest) == 7
        assert b"".join(view.read(digest)) == b"content"
        assert view.staged() == []
        assert [(info.digest, info.size) for info in view.blobs()] == [(digest, 7)]


def test_nothing_is_visible_before_publish(store: BlobStore):
    digest = Digest.of(b"content")
    with store.stage("u1") as staged:
        staged.write(b"content")
        staged.seal(digest)
        assert store.size(digest) is None
        assert list(store.blobs()) == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 9000])
def test_contents_of_any_size_and_both_algorithms(store: BlobStore, content: bytes, algorithm):
    digest = Digest.of(content, algorithm)
    with store.stage("u1") as staged:
        for start in range(0, len(content), 100_000):
            staged.write(memoryview(content)[start : start + 100_000])
        staged.seal(digest)
        staged.publish()
    assert b"".join(store.read(digest)) == content


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 5, b"34"), (9, 10, b"9"),
     (10, None, b""), (0, 0, b""), (4, 99, b"456789"), (99, None, b"")],
)  # fmt: skip
def test_ranges(store: BlobStore, start: int, stop: int | None, expected: bytes):
    digest = keep(store, b"0123456789")
    assert b"".join(store.read(digest, start, stop, chunk=2)) == expected


def test_pieces_are_no_larger_than_asked(store: BlobStore):
    digest = keep(store, b"0123456789")
    assert [len(piece) for piece in store.read(digest, chunk=4)] == [4, 4, 2]


def test_reading_what_is_not_there_fails_at_the_call(store: BlobStore):
    with pytest.raises(NotFound):
        store.read(Digest.of(b"absent"))
    assert store.size(Digest.of(b"absent")) is None


def test_a_reader_keeps_its_content_while_the_blob_is_deleted(store: BlobStore):
    digest = keep(store, b"0123456789")
    reader = store.read(digest, chunk=5)
    assert next(reader) == b"01234"
    store.delete(digest)
    assert next(reader) == b"56789"
    assert store.size(digest) is None


def test_a_reader_may_be_closed_early_and_again(store: BlobStore):
    reader = store.read(keep(store, b"0123456789"), chunk=1)
    next(reader)
    reader.close()
    reader.close()
    assert list(reader) == []


def test_a_wrong_digest_is_told_and_can_be_mended(store: BlobStore):
    with store.stage("u1") as staged:
        staged.write(b"wrong")
        with pytest.raises(DigestMismatch, match="not sha256:"):
            staged.seal(Digest.of(b"right"))
        staged.truncate(0)
        staged.write(b"right")
        staged.seal(Digest.of(b"right"))
        staged.publish()
    assert store.size(Digest.of(b"right")) == 5
    assert store.size(Digest.of(b"wrong")) is None


def test_publishing_needs_a_seal_that_covers_the_last_write(store: BlobStore):
    with store.stage("u1") as staged:
        with pytest.raises(RuntimeError, match="seal"):
            staged.publish()
        staged.write(b"a")
        staged.seal(Digest.of(b"a"))
        staged.write(b"b")
        with pytest.raises(RuntimeError, match="seal"):
            staged.publish()
    assert list(store.blobs()) == []


def test_staged_content_is_resumed_where_it_stopped(store: BlobStore, reopen: Open):
    with store.stage("u1") as staged:
        staged.write(b"first ")
        staged.sync()
    again = reopen()
    assert [(info.name, info.size) for info in again.staged()] == [("u1", 6)]
    with again.stage("u1", create=False) as staged:
        assert staged.size == 6
        staged.write(b"second")
        staged.seal(Digest.of(b"first second"))
        staged.publish()
    assert b"".join(store.read(Digest.of(b"first second"))) == b"first second"


def test_truncating_drops_the_tail_only(store: BlobStore):
    with store.stage("u1") as staged:
        staged.write(b"keep-drop")
        staged.truncate(4)
        assert staged.size == 4
        staged.write(b"!")
        staged.seal(Digest.of(b"keep!"))
        for size in (-1, 6):
            with pytest.raises(Invalid):
                staged.truncate(size)


def test_a_staged_name_has_one_writer(store: BlobStore, reopen: Open):
    other = reopen()
    with store.stage("u1") as staged:
        staged.write(b"x")
        for view in (store, other):
            with pytest.raises(Conflict):
                view.stage("u1")
            with pytest.raises(Conflict):
                view.discard("u1")
        assert other.staged_info("u1") is not None
    with other.stage("u1") as staged:
        assert staged.size == 1


def test_resuming_what_was_published_or_discarded_finds_nothing(store: BlobStore):
    keep(store, b"x", "u1")
    store.stage("u2").close()
    store.discard("u2")
    for name in ("u1", "u2", "u3"):
        assert store.staged_info(name) is None
        with pytest.raises(NotFound):
            store.stage(name, create=False)
    assert store.staged() == []


def test_discarding_and_deleting_are_idempotent(store: BlobStore):
    digest = keep(store, b"x")
    for _ in range(2):
        store.delete(digest)
        store.discard("u1")


def test_publishing_twice_keeps_one_blob(store: BlobStore):
    digest = keep(store, b"same", "u1")
    assert keep(store, b"same", "u2") == digest
    assert len(list(store.blobs())) == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "-x", "a\0b", "a\n",
             "x" * 129, "é", "a b"]
)  # fmt: skip
def test_hostile_names_are_refused(store: BlobStore, name: str):
    for act in (store.stage, store.discard, store.staged_info):
        with pytest.raises(Invalid):
            act(name)


def test_a_closed_or_published_writer_refuses_to_go_on(store: BlobStore):
    staged = store.stage("u1")
    staged.close()
    staged.close()
    with pytest.raises(RuntimeError, match="closed"):
        staged.write(b"x")


def test_staged_and_kept_content_tell_when_they_were_written(store: BlobStore):
    store.stage("u2").close()
    keep(store, b"x", "u1")
    now = datetime.now(timezone.utc)
    for moment in (store.staged()[0].modified, next(iter(store.blobs())).modified):
        assert abs(now - moment) < timedelta(minutes=1)


def test_free_space_is_told(store: BlobStore):
    assert store.free() > 0


def test_descriptors_are_not_leaked(store: BlobStore):
    digest = keep(store, b"x" * 1000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in range(20):
        store.read(digest)
        b"".join(store.read(digest))
        with pytest.raises(NotFound):
            store.stage(f"none{index}", create=False)
        keep(store, b"x" * 1000, f"u{index}")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_content_that_was_read_is_set_aside_and_the_next_takes_its_place(store: BlobStore):
    digest = keep(store, b"content")
    reader = store.read(digest)
    reader.close()
    assert store.set_aside(digest, reader.version)
    assert store.size(digest) is None
    assert list(store.blobs()) == []
    with pytest.raises(NotFound):
        store.read(digest)
    assert not store.set_aside(digest, reader.version)
    keep(store, b"content")
    assert b"".join(store.read(digest)) == b"content"


def test_content_that_came_meanwhile_is_not_set_aside(store: BlobStore):
    digest = keep(store, b"content")
    reader = store.read(digest)
    keep(store, b"content")
    assert not store.set_aside(digest, reader.version)
    assert store.size(digest) == 7
    reader.close()


def test_a_store_has_no_strays_of_its_own(store: BlobStore):
    keep(store, b"content")
    with store.stage("u2") as staged:
        staged.write(b"more")
    assert list(store.strays()) == []


def test_a_store_has_one_owner_until_it_is_replaced(store: BlobStore, reopen: Open):
    assert store.owner() is None
    assert store.claim("a" * 32) == "a" * 32
    other = reopen()
    assert other.owner() == "a" * 32
    assert other.claim("a" * 32) == "a" * 32
    assert other.claim("b" * 32) == "a" * 32
    assert other.claim("b" * 32, replace=True) == "b" * 32
    assert store.owner() == "b" * 32


def test_its_owner_is_neither_blob_nor_stray_nor_left_over(store: BlobStore):
    digest = keep(store, b"content")
    store.claim("a" * 32)
    assert [info.digest for info in store.blobs()] == [digest]
    assert list(store.strays()) == []
    assert store.staged() == []
    store.tidy(datetime.now(timezone.utc) + timedelta(days=1))
    assert store.owner() == "a" * 32
