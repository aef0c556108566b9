"""What only the file store promises: layout, permissions, full disks, durability."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from regkit.blobs import FileBlobStore
from regkit.errors import NoSpace, NotFound, ServiceError
from regkit.oci.digest import Digest


def keep(store: FileBlobStore, content: bytes) -> Digest:
    digest = Digest.of(content)
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


def test_seal_and_publish_sync_the_content_and_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    digest = keep(FileBlobStore(tmp_path), b"x")
    shard = tmp_path / "blobs" / "sha256" / digest.hex[:2]
    assert synced == [
        str(path)
        for path in (
            tmp_path / "uploads" / "u1",
            tmp_path / "uploads",
            shard.parent,
            shard.parent.parent,
            shard,
        )
    ]


def test_what_blocks_runs_where_the_owner_says(tmp_path: Path):
    calls = []

    def elsewhere(call):
        calls.append(call)
        call()

    keep(FileBlobStore(tmp_path, elsewhere), b"x")
    assert len(calls) == 1


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
    shard.mkdir(parents=True)
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
