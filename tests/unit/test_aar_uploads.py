from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from aar import schema
from aar.errors import (
    BlobUploadBusy,
    BlobUploadUnknown,
    DigestInvalid,
    NameInvalid,
    RangeInvalid,
    SizeInvalid,
)
from aar.registry import Registry
from aar.uploads import Uploads
from regkit.errors import NoSpace
from regkit.oci.digest import Digest
from support.images import content_of
from support.postgresql import OpenRegistry

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def registry(tmp_path: Path, open_registry: OpenRegistry) -> Iterator[Registry]:
    with open_registry(tmp_path) as registry:
        yield registry


def staged(registry: Registry) -> list[int]:
    return [info.size for info in registry.blobs.staged()]


def test_a_session_in_chunks(registry: Registry):
    upload = registry.uploads.start("candy")
    assert upload.size == 0
    assert registry.uploads.append("candy", upload.id, [b"01", b"23"], start=0, length=4).size == 4
    assert registry.uploads.status("candy", upload.id).size == 4
    assert registry.uploads.append("candy", upload.id, [b"45"]).size == 6
    size = registry.uploads.finish("candy", upload.id, DIGEST, [b"6789"], start=6, length=4)
    assert size == 10
    assert content_of(registry, "candy", DIGEST) == CONTENT
    assert staged(registry) == []
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.status("candy", upload.id)


def test_a_session_survives_the_process(
    registry: Registry, tmp_path: Path, open_registry: OpenRegistry
):
    upload = registry.uploads.start("candy")
    registry.uploads.append("candy", upload.id, [b"01234"])
    registry.close()
    with open_registry(tmp_path) as again:
        assert again.uploads.status("candy", upload.id).size == 5
        again.uploads.append("candy", upload.id, [b"56789"], start=5)
        again.uploads.finish("candy", upload.id, DIGEST)
        assert content_of(again, "candy", DIGEST) == CONTENT


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_whole_blob_in_one_request(registry: Registry, algorithm: str):
    digest = Digest.of(CONTENT, algorithm)
    assert registry.uploads.put("candy", digest, [CONTENT], length=10) == 10
    assert content_of(registry, "candy", digest) == CONTENT
    assert staged(registry) == []


@pytest.mark.parametrize("start", [0, 3, 5, 100])
def test_a_chunk_out_of_order_changes_nothing(registry: Registry, start: int):
    upload = registry.uploads.start("candy")
    registry.uploads.append("candy", upload.id, [b"0123"])
    with pytest.raises(RangeInvalid) as error:
        registry.uploads.append("candy", upload.id, [b"x"], start=start)
    assert (error.value.status, error.value.size) == (416, 4)
    assert registry.uploads.status("candy", upload.id).size == 4


@pytest.mark.parametrize(("body", "length"), [([b"45"], 3), ([b"45", b"6"], 2), ([], 1)])
def test_a_chunk_of_another_length_is_not_kept(registry: Registry, body: list[bytes], length: int):
    upload = registry.uploads.start("candy")
    registry.uploads.append("candy", upload.id, [b"0123"])
    with pytest.raises(SizeInvalid, match="send the chunk again"):
        registry.uploads.append("candy", upload.id, body, length=length)
    assert registry.uploads.status("candy", upload.id).size == 4
    registry.uploads.finish("candy", upload.id, DIGEST, [b"456789"])
    assert content_of(registry, "candy", DIGEST) == CONTENT


def test_what_came_before_a_cut_is_resumed_from(registry: Registry):
    def cut() -> Iterator[bytes]:
        yield b"012"
        raise ConnectionResetError

    upload = registry.uploads.start("candy")
    with pytest.raises(ConnectionResetError):
        registry.uploads.append("candy", upload.id, cut(), length=10)
    assert registry.uploads.status("candy", upload.id).size == 3
    registry.uploads.finish("candy", upload.id, DIGEST, [b"3456789"], start=3)
    assert content_of(registry, "candy", DIGEST) == CONTENT


def test_an_acknowledged_chunk_was_synced(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    upload = registry.uploads.start("candy")
    synced: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.is_file() and path.parent.name == "uploads":
            synced.append(path.read_bytes())
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    registry.uploads.append("candy", upload.id, [b"01", b"23"])
    assert synced == [b"0123"]


def test_wrong_content_is_refused_and_leaves_nothing(registry: Registry):
    upload = registry.uploads.start("candy")
    with pytest.raises(DigestInvalid, match="send it again"):
        registry.uploads.finish("candy", upload.id, DIGEST, [b"other"])
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.status("candy", upload.id)
    with pytest.raises(DigestInvalid):
        registry.uploads.put("candy", DIGEST, [b"other"])
    with pytest.raises(SizeInvalid):
        registry.uploads.put("candy", DIGEST, [CONTENT], length=11)
    assert staged(registry) == []
    assert list(registry.blobs.blobs()) == []
    with registry.database.read() as connection:
        assert connection.execute(sa.select(schema.blob)).all() == []


def test_an_id_is_worthless_in_another_repository(registry: Registry):
    upload = registry.uploads.start("candy")
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.append("other", upload.id, [b"x"])
    assert registry.uploads.status("candy", upload.id).size == 0


def test_ids_differ_and_are_long(registry: Registry):
    ids = {registry.uploads.start("candy").id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(one) * 4 == 128 for one in ids)


@pytest.mark.parametrize(
    "upload_id", ["", "..", "../../aar.db", "0" * 31, "G" * 32, "0" * 32, "a/b"]
)
def test_hostile_ids_are_unknown(registry: Registry, upload_id: str):
    for act in (
        lambda: registry.uploads.status("candy", upload_id),
        lambda: registry.uploads.append("candy", upload_id, [b"x"]),
        lambda: registry.uploads.finish("candy", upload_id, DIGEST),
        lambda: registry.uploads.cancel("candy", upload_id),
    ):
        with pytest.raises(BlobUploadUnknown):
            act()
    assert staged(registry) == []


def test_hostile_repositories_are_refused(registry: Registry):
    for name in ("", "../x", "UPPER", "a//b"):
        for act in (
            lambda name=name: registry.uploads.start(name),
            lambda name=name: registry.uploads.status(name, "0" * 32),
            lambda name=name: registry.uploads.put(name, DIGEST, [CONTENT]),
        ):
            with pytest.raises(NameInvalid):
                act()
    assert staged(registry) == []


def test_one_request_at_a_time(registry: Registry):
    upload = registry.uploads.start("candy")

    def chunks() -> Iterator[bytes]:
        yield b"01"
        for act in (
            lambda: registry.uploads.append("candy", upload.id, [b"x"]),
            lambda: registry.uploads.finish("candy", upload.id, DIGEST),
            lambda: registry.uploads.cancel("candy", upload.id),
        ):
            with pytest.raises(BlobUploadBusy) as error:
                act()
            assert error.value.status == 409
        yield b"23"

    assert registry.uploads.append("candy", upload.id, chunks()).size == 4


def test_a_cancelled_session_is_gone(registry: Registry):
    upload = registry.uploads.start("candy")
    registry.uploads.cancel("candy", upload.id)
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.cancel("candy", upload.id)
    assert staged(registry) == []


def test_more_than_the_disk_has_room_for_is_refused_at_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
):
    def never() -> Iterator[bytes]:
        raise AssertionError("the body must not be read")
        yield b""

    uploads = Uploads(registry.database, registry.blobs)
    upload = uploads.start("candy")
    with pytest.raises(NoSpace, match="free some space"):
        uploads.append("candy", upload.id, never(), length=2**60)


def test_the_same_blob_again_and_in_another_repository(registry: Registry):
    for repository in ("candy", "candy", "other"):
        registry.uploads.put(repository, DIGEST, [CONTENT])
    assert len(list(registry.blobs.blobs())) == 1
    with registry.database.read() as connection:
        links = connection.execute(sa.select(schema.repository_blob.c.repository)).scalars().all()
    assert sorted(links) == ["candy", "other"]


def test_an_empty_blob(registry: Registry):
    empty = Digest("sha256", hashlib.sha256().hexdigest())
    assert registry.uploads.put("candy", empty, [], length=0) == 0
    assert content_of(registry, "candy", empty) == b""
