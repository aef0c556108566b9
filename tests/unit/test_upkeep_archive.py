"""The file that a backup is: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from datetime import datetime, timezone
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.errors import Invalid
from regkit.oci.digest import Digest
from regkit.upkeep import archive
from regkit.upkeep.archive import Header, Writer, members

HEADER = Header(
    "aar", datetime(2026, 1, 2, tzinfo=timezone.utc), "0.1", {"database.db": "0"}, 1, 2
)


def written(*files: tuple[str, bytes]) -> bytes:
    out = BytesIO()
    writer = Writer(out)
    for name, content in files:
        writer.content(name, content)
    writer.close()
    return out.getvalue()


def read(raw: bytes) -> list[tuple[str, bytes]]:
    return [(member.name, b"".join(member.chunks())) for member in members(BytesIO(raw))]


def test_what_is_written_is_read_back():
    files = [("backup.json", b"{}"), ("conf/main.yaml", b"x" * 5000), ("database.db", b"")]
    files += [(archive.blob_name(Digest.of(bytes([i]))), bytes([i])) for i in range(200)]
    assert read(written(*files)) == files


def test_a_header_is_read_back():
    assert archive.parse_header(json.dumps(HEADER.to_dict()).encode()) == HEADER


@given(
    size=st.integers(0, 50),
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=8),
    block=st.integers(1, 60),
)
def test_a_stream_has_the_announced_size(size: int, chunks: list[bytes], block: int):
    reader = archive._Exactly(chunks, size)
    parts = []
    while part := reader.read(block):
        parts.append(part)
    whole = b"".join(chunks)
    assert b"".join(parts) == whole[:size].ljust(size, b"\0")
    assert reader.exact() == (len(whole) == size)


@pytest.mark.parametrize("content", [b"x" * 9, b"x" * 11, b""])
def test_a_blob_of_another_size_is_told_and_the_archive_goes_on(content: bytes):
    out = BytesIO()
    writer = Writer(out)
    assert not writer.stream("database.db", 10, iter([content] if content else []))
    writer.content("complete.json", b"{}")
    writer.close()
    names = [(name, len(found)) for name, found in read(out.getvalue())]
    assert names == [("database.db", 10), ("complete.json", 2)]


def tar(info: tarfile.TarInfo, content: bytes = b"") -> bytes:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        info.size = len(content)
        made.addfile(info, BytesIO(content))
    return out.getvalue()


def of_type(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info


HOSTILE = [
    "/etc/passwd", "../conf/main.yaml", "conf/../certs/server.key", "conf/.hidden", "conf/",
    "certs/a/b", "data/aar.db", "database.db/x", "blobs/sha256/00/" + "1" * 64, "conf/a\nb",
    "blobs/sha256/11/" + "1" * 63, "blobs/md5/11/" + "1" * 64, "blobs/sha512/11/" + "1" * 64, "",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_foreign_name_is_refused(name: str):
    with pytest.raises(Invalid, match="this is no backup"):
        read(tar(tarfile.TarInfo(name or "."), b"x"))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE],
)
def test_what_is_no_file_is_refused(kind: bytes):
    with pytest.raises(Invalid, match="this is no backup"):
        read(tar(of_type("conf/main.yaml", kind)))


def test_a_cut_file_is_noticed_wherever_it_is_cut():
    raw = written(("backup.json", b"{}"), ("database.db", b"x" * 3000), ("complete.json", b"{}"))
    whole = read(raw)
    data = 512 * 2 + 512 + 3072 + 512 * 2  # headers and contents, without the end
    for size in range(0, data, 100):
        try:
            found = read(raw[:size])
        except Invalid:
            continue
        assert len(found) < len(whole)


@pytest.mark.parametrize("raw", [b"", b"x", b"\x1f\x8b" + b"\0" * 600, b"PK\x03\x04", b"y" * 2000])
def test_what_is_no_tar(raw: bytes):
    with pytest.raises(Invalid):
        if not read(raw):
            raise Invalid("empty, which restore refuses")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"format": None}, {"created": "yesterday"}, {"created": "2026-01-02"},
        {"sha256": {}}, {"sha256": []}, {"blobs": "many"}, {"service": None, "blobs": None},
        {"sha256": {str(i): "" for i in range(200)}},
    ],
)  # fmt: skip
def test_a_header_that_is_wrong(change: dict[str, Any]):
    body = {**HEADER.to_dict(), **change}
    with pytest.raises(Invalid, match="the backup"):
        archive.parse_header(json.dumps(body).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_a_document_that_is_wrong(content: bytes):
    with pytest.raises(Invalid, match="can't be read"):
        archive.parse_json(content, "complete.json")


def test_a_small_file_has_a_limit():
    def all_of(raw: bytes) -> Iterator[bytes]:
        for member in members(BytesIO(raw)):
            yield member.content(10)

    with pytest.raises(Invalid, match="too large"):
        list(all_of(written(("conf/main.yaml", b"x" * 11))))
