"""What only the file store promises: layout, permissions, full disks, durability."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from regkit.blobs import FileBlobStore
from regkit.errors import NoSpace, NotFound, ServiceError
from regkit.oci.digest import Digest


def keep(store: FileBlobStore, content: bytes, digest: Digest | None = None) -> Digest:
    digest = digest or Digest.of(content)
    with store.stage("u1") as staged:
        staged.write(content)
        staged.seal(digest)
        staged.publish()
    return digest


def test_the_layout_is_the_documented_one(tmp_path: Path):
    digest = keep(FileBlobStore(tmp_path), b"x")
    path = tmp_path / "blobs" / "sha256" / digest.hex[:2] / digest.hex
    assert path.read_bytes() == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_leaves_no_partial_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = FileBlobStore(tmp_path)
    real = os.write
    room = [10]

    def write(descriptor: int, data: memoryview) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(descriptor, data[: room[0]])
        room[0] -= count
        return count

    with store.stage("u1") as staged:
        monkeypatch.setattr(os, "write", write)
        staged.write(b"12345")
        with pytest.raises(NoSpace, match="free some space"):
            staged.write(b"6789012345")
        assert staged.size == 5
        assert (tmp_path / "uploads" / "u1").read_bytes() == b"12345"
        room[0] = 100
        staged.write(b"678")
        staged.seal(Digest.of(b"12345678"))
        staged.publish()
    assert store.size(Digest.of(b"12345678")) == 8


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was synced, in order."""
    found: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_the_folders_of_sha256_are_made_at_once_and_synced(tmp_path: Path, synced: list[Path]):
    FileBlobStore(tmp_path)
    folders = sorted(path.name for path in (tmp_path / "blobs" / "sha256").iterdir())
    assert folders == [f"{number:02x}" for number in range(256)]
    assert synced == [tmp_path / "blobs" / "sha256", tmp_path / "blobs"]
    FileBlobStore(tmp_path)
    assert len(synced) == 2


def test_seal_and_publish_sync_the_content_and_the_folder_once(tmp_path: Path, synced: list[Path]):
    store = FileBlobStore(tmp_path)
    synced.clear()
    digest = keep(store, b"x")
    shard = tmp_path / "blobs" / "sha256" / digest.hex[:2]
    assert synced == [tmp_path / "uploads" / "u1", shard]


def test_another_algorithm_has_its_folders_made_and_synced(tmp_path: Path, synced: list[Path]):
    store = FileBlobStore(tmp_path)
    synced.clear()
    digest = keep(store, b"x", Digest.of(b"x", "sha512"))
    shard = tmp_path / "blobs" / "sha512" / digest.hex[:2]
    assert synced == [
        tmp_path / "uploads" / "u1",
        shard.parent,
        shard.parent.parent,
        shard,
    ]


def test_what_may_be_resumed_is_synced_with_its_name(tmp_path: Path, synced: list[Path]):
    store = FileBlobStore(tmp_path)
    synced.clear()
    with store.stage("u1") as staged:
        staged.write(b"x")
        staged.sync()
        staged.sync()
        assert synced == [tmp_path / "uploads" / "u1", tmp_path / "uploads"]
        staged.write(b"y")
        staged.sync()
        staged.seal(Digest.of(b"xy"))
        assert synced[2:] == [tmp_path / "uploads" / "u1"]


def test_what_takes_long_runs_where_the_owner_says(tmp_path: Path):
    """Hashing a large piece and syncing; whoever needs the result waits for it."""
    begun: list[str] = []
    pending: list[Callable[[], None]] = []

    def elsewhere(call: Callable[[], None]) -> Callable[[], object]:
        begun.append("begun")
        pending.append(call)

        def wait() -> None:
            begun.append("waited")
            while pending:
                pending.pop(0)()

        return wait

    store, pieces = FileBlobStore(tmp_path, elsewhere), [b"1" * 300_000, b"2" * 300_000]
    with store.stage("u1") as staged:
        for piece in pieces:
            staged.write(piece)
        assert begun == ["begun", "waited", "begun"], "one piece at a time, in order"
        staged.seal(Digest.of(b"".join(pieces)))
        staged.publish()


def test_the_disk_is_set_to_work_before_the_end_and_its_fault_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A fault of writing back is told to one call only; that must not be one nobody listens to."""
    flushed: list[int] = []

    def broken(descriptor: int) -> None:
        flushed.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    def later(call: Callable[[], None]) -> Callable[[], object]:
        return call

    monkeypatch.setattr(os, "fdatasync", broken)
    piece = b"x" * 2**20
    with FileBlobStore(tmp_path, later).stage("u1") as staged:
        for _ in range(12):
            staged.write(piece)
        assert not flushed
        with pytest.raises(OSError, match="Input/output"):
            staged.seal(Digest.of(piece * 12))
        assert flushed


def test_a_cut_while_hashing_starts_anew(tmp_path: Path):
    pending: list[Callable[[], None]] = []

    def elsewhere(call: Callable[[], None]) -> Callable[[], object]:
        pending.append(call)
        return lambda: [call() for call in (pending.pop(0) for _ in list(pending))]

    with FileBlobStore(tmp_path, elsewhere).stage("u1") as staged:
        staged.write(b"1" * 300_000)
        staged.truncate(0)
        staged.write(b"2" * 300_000)
        staged.seal(Digest.of(b"2" * 300_000))


def test_a_symbolic_link_is_not_followed(tmp_path: Path):
    store = FileBlobStore(tmp_path)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "uploads" / "u1").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        store.stage("u1")
    assert victim.read_bytes() == b"precious"


def test_foreign_files_are_neither_staged_nor_blobs(tmp_path: Path):
    store = FileBlobStore(tmp_path)
    (tmp_path / "uploads" / ".nfs0001").write_bytes(b"")
    shard = tmp_path / "blobs" / "sha256" / "ab"
    (shard / "README").write_bytes(b"")
    assert store.staged() == []
    assert list(store.blobs()) == []


def test_a_blob_cut_short_on_disk_is_an_error_not_an_end(tmp_path: Path):
    store = FileBlobStore(tmp_path)
    digest = keep(store, b"0123456789")
    reader = store.read(digest, chunk=5)
    next(reader)
    os.truncate(tmp_path / "blobs" / "sha256" / digest.hex[:2] / digest.hex, 5)
    with pytest.raises(ServiceError, match="cut short"):
        next(reader)


@pytest.mark.parametrize("create", [True, False])
def test_what_was_published_between_open_and_lock_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: bool
):
    store = FileBlobStore(tmp_path)
    first = store.stage("u1")
    first.write(b"x")
    first.seal(Digest.of(b"x"))
    real, calls = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        if not calls:
            first.publish()
        calls.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    if create:
        with store.stage("u1") as staged:
            assert staged.size == 0
            staged.write(b"another")
    else:
        with pytest.raises(NotFound):
            store.stage("u1", create=False)
    assert b"".join(store.read(Digest.of(b"x"))) == b"x"
