"""Reading packages: every format, every attack, and that nothing is left behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from ams import packages
from ams.packages.archive import Limits
from regkit.blobs import FileBlobStore
from regkit.errors import Invalid, ServiceError, TooLarge
from regkit.oci.digest import Digest
from support.packages import (
    PACKERS,
    content,
    directory,
    manifest,
    special,
    tar,
    tar_with,
    zipped,
)

SMALL = Limits(count=20, file_size=200_000, total_size=300_000, ratio=50, ratio_floor=20_000)


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "store")


def shape(package: packages.Package) -> dict[str, tuple[str, int]]:
    return {file.path: (str(file.digest), file.mode) for file in package.files}


def expected(files: dict[str, bytes]) -> dict[str, tuple[str, int]]:
    return {
        path: (str(Digest.of(data)), 0o755 if path.startswith("hooks/") else 0o644)
        for path, data in files.items()
    }


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("prefix", ["", "./", "wrap/"])
def test_every_format_gives_the_same_package(packer: str, prefix: str, blobs: FileBlobStore):
    files = {"extra-data/ünï/x.obb": os.urandom(3000), **content()}
    raw = PACKERS[packer]({prefix + path: data for path, data in files.items()})
    with packages.read(io.BytesIO(raw), blobs) as package:
        assert {p: d for p, (d, _) in shape(package).items()} == {
            p: d for p, (d, _) in expected(files).items()
        }
        assert package.manifest.name == "candy"
        assert package.size == sum(map(len, files.values()))
        assert len(blobs.staged()) == len(files)
        assert package.publish() == package.size
    assert blobs.staged() == []
    for data in files.values():
        assert b"".join(blobs.read(Digest.of(data))) == data


def test_a_directory_and_a_path(tmp_path: Path, blobs: FileBlobStore):
    files = content()
    with packages.read(directory(tmp_path / "app", files), blobs) as package:
        assert shape(package) == expected(files)
    assert blobs.staged() == []
    archive = tmp_path / "app.tar"
    archive.write_bytes(tar(files))
    with packages.read(archive, blobs) as package:
        assert shape(package) == expected(files)


def test_equal_files_are_one_blob_and_known_ones_are_not_stored_again(blobs: FileBlobStore):
    files = {**content(), "extra-data/a": b"same", "extra-data/b": b"same"}
    with packages.read(io.BytesIO(tar(files)), blobs) as package:
        assert package.publish() == package.size - len(b"same")
    with packages.read(io.BytesIO(tar(files)), blobs) as package:
        assert package.publish() == 0
    assert blobs.staged() == []


def test_progress_may_stop_the_work(blobs: FileBlobStore):
    class StopError(Exception):
        pass

    def progress(size: int) -> None:
        if size > 100:
            raise StopError

    with pytest.raises(StopError):
        packages.read(io.BytesIO(tar(content())), blobs, progress=progress)
    assert blobs.staged() == []


def one_gnu_sparse() -> bytes:
    info = special("sparse", tarfile.GNUTYPE_SPARSE)
    return tar_with(info, form=tarfile.GNU_FORMAT)


def huge_pax_header() -> bytes:
    info = tarfile.TarInfo("big")
    info.pax_headers = {"comment": "x" * (5 * 1024 * 1024)}
    return tar_with(info)


def encrypted_zip() -> bytes:
    raw = bytearray(zipped(content()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = raw.find(signature)
        raw[position + offset] |= 1
    return bytes(raw)


def zip_with_mode(mode: int, name: str = "x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.yaml", manifest())
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def zip_twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("manifest.yaml", manifest())
        archive.writestr("manifest.yaml", manifest("other"))
    return buffer.getvalue()


def flipped(raw: bytes, position: int) -> bytes:
    damaged = bytearray(raw)
    damaged[position] ^= 0xFF
    return bytes(damaged)


def many(count: int) -> dict[str, bytes]:
    return {**content(), **{f"f{i}": b"" for i in range(count)}}


def negative_size() -> bytes:
    raw = bytearray(tar({**content(), "last": b"x"}))
    at = raw.find(b"last\0")
    raw[at + 124 : at + 136] = b"\xff" * 12  # base-256, minus one
    raw[at + 148 : at + 156] = b" " * 8
    check = sum(raw[at : at + 512])
    raw[at + 148 : at + 156] = f"{check:06o}\0 ".encode()
    return bytes(raw)


GOOD = tar(content())
ZEROS = {**content(), "zeros": bytes(150_000)}
HOSTILE = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"hello world", "not a package"),
    "elf": (lambda: b"\x7fELF" + bytes(1000), "not a package"),
    "no-manifest": (lambda: tar({"app.apk": b"x"}), "has no manifest.yaml"),
    "no-manifest-zip": (lambda: zipped({"app.apk": b"x"}), "has no manifest.yaml"),
    "empty-tar": (lambda: bytes(10240), "not a package"),
    "empty-zip": (lambda: zipped({}), "has no manifest.yaml"),
    "two-tops": (lambda: tar({"a/manifest.yaml": manifest(), "b": b""}), "has no manifest.yaml"),
    "bad-manifest": (lambda: tar({"manifest.yaml": b"colour: x"}), "colour: unknown key"),
    "missing-extra": (
        lambda: tar(content(extra="extra-data: {x.obb: {target: /y}}\n")),
        "extra-data.x.obb: there is no extra-data/x.obb",
    ),
    "dotdot": (lambda: tar_with(tarfile.TarInfo("../evil")), "leads out of the package"),
    "dotdot-inside": (lambda: tar_with(tarfile.TarInfo("a/../../x")), "leads out of the package"),
    "absolute": (lambda: tar_with(tarfile.TarInfo("/etc/passwd")), "leads out of the package"),
    "dotdot-zip": (lambda: zip_with_mode(0o100644, "../evil"), "leads out of the package"),
    "absolute-zip": (lambda: zip_with_mode(0o100644, "/etc/x"), "leads out of the package"),
    "backslash": (lambda: tar_with(tarfile.TarInfo("..\\evil")), "backslash"),
    "control": (lambda: tar_with(tarfile.TarInfo("a\nb")), "control character"),
    "long-name": (lambda: tar_with(tarfile.TarInfo("n" * 300)), "too long"),
    "symlink": (lambda: tar_with(special("l", tarfile.SYMTYPE, "/etc/passwd")), "is a link"),
    "hard-link": (lambda: tar_with(special("l", tarfile.LNKTYPE, "manifest.yaml")), "is a link"),
    "symlink-zip": (lambda: zip_with_mode(0o120777), "is a link"),
    "device": (lambda: tar_with(special("d", tarfile.CHRTYPE)), "not a regular file"),
    "fifo": (lambda: tar_with(special("d", tarfile.FIFOTYPE)), "not a regular file"),
    "device-zip": (lambda: zip_with_mode(0o020644), "not a regular file"),
    "sparse": (one_gnu_sparse, "not a regular file"),
    "twice": (lambda: tar_with(tarfile.TarInfo("manifest.yaml")), "twice"),
    "twice-in-disguise": (lambda: tar_with(tarfile.TarInfo("./a//../manifest.yaml")), "leads out"),
    "twice-zip": (zip_twice, "twice"),
    "file-and-folder": (
        lambda: tar_with(tarfile.TarInfo("a"), tarfile.TarInfo("a/b")),
        "same name",
    ),
    "encrypted": (encrypted_zip, "is encrypted"),
    "lzma-zip": (lambda: zipped(content(), zipfile.ZIP_LZMA), "unusual way"),
    "too-many": (lambda: tar(many(30)), "too many files"),
    "too-many-zip": (lambda: zipped(many(30)), "too many files"),
    "too-large-file": (lambda: tar({**content(), "x": os.urandom(200_001)}), "too large"),
    "too-large-total": (
        lambda: tar({**content(), "x": os.urandom(150_001), "y": os.urandom(150_001)}),
        "too large",
    ),
    "bomb-bz2": (lambda: bz2.compress(tar(ZEROS)), "decompression bomb"),
    "bomb-gz": (lambda: gzip.compress(tar(ZEROS)), "decompression bomb"),
    "bomb-xz": (lambda: lzma.compress(tar(ZEROS)), "decompression bomb"),
    "bomb-zip": (lambda: zipped(ZEROS), "decompression bomb"),
    "bomb-after-the-end": (lambda: gzip.compress(GOOD + bytes(1_000_000)), "bomb"),
    "huge-header": (huge_pax_header, "header that is too large"),
    "huge-header-packed": (lambda: bz2.compress(huge_pax_header()), ""),
    "negative-size": (negative_size, ""),
    "cut-tar": (lambda: GOOD[:1000], "unexpected end of data"),
    "cut-tar-in-data": (lambda: GOOD[: 512 + 10], "truncated"),
    "cut-tar-between": (lambda: GOOD[:1024], "truncated"),
    "cut-bz2": (lambda: bz2.compress(GOOD)[:-5], "truncated"),
    "cut-gz": (lambda: gzip.compress(GOOD)[:-5], "truncated"),
    "cut-xz": (lambda: lzma.compress(GOOD)[:-5], "truncated"),
    "cut-zip": (lambda: zipped(content())[:-30], "damaged"),
    "crc-zip": (lambda: flipped(zipped(content(), zipfile.ZIP_STORED), 60), "damaged"),
    "crc-gz": (lambda: flipped(gzip.compress(GOOD), -6), "damaged"),
    "crc-xz": (lambda: flipped(lzma.compress(GOOD), -40), "damaged"),
    "damaged-bz2": (lambda: flipped(bz2.compress(GOOD), 60), "damaged"),
    "damaged-header": (lambda: flipped(GOOD, 1024), "damaged"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_archives_are_refused_in_one_line_and_leave_nothing(
    attack: str, blobs: FileBlobStore
):
    make, part = HOSTILE[attack]
    with pytest.raises(ServiceError) as caught:
        packages.read(io.BytesIO(make()), blobs, limits=SMALL)
    assert isinstance(caught.value, Invalid | TooLarge)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert blobs.staged() == []
    assert list(blobs.blobs()) == []


def test_xz_that_asks_for_gigabytes_of_memory_is_refused(blobs: FileBlobStore):
    raw = bytearray(lzma.compress(GOOD, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}]))
    # Block header: size, flags, filter id, size of properties, dictionary size (40: 4 GiB - 1).
    assert raw[14:16] == b"\x21\x01"
    raw[16] = 40
    header = raw[12:20]
    raw[20:24] = struct.pack("<I", __import__("zlib").crc32(bytes(header)))
    with pytest.raises(TooLarge, match="too much memory"):
        packages.read(io.BytesIO(bytes(raw)), blobs)


@pytest.mark.parametrize("step", [7])
def test_archives_cut_anywhere_never_give_a_package_that_lacks_a_file(
    step: int, blobs: FileBlobStore
):
    raw = gzip.compress(tar(content(apk=os.urandom(500))))
    for size in range(0, len(raw), step):
        with pytest.raises((Invalid, TooLarge)):
            packages.read(io.BytesIO(raw[:size]), blobs)
    assert blobs.staged() == []


def test_links_pipes_and_unreadable_things_in_directories(tmp_path: Path, blobs: FileBlobStore):
    root = directory(tmp_path / "app", content())
    (root / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="'link' is a link"):
        packages.read(root, blobs)
    (root / "link").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(Invalid, match="'pipe' is not a regular file"):
        packages.read(root, blobs)
    with pytest.raises(Invalid, match="can't be read: No such file"):
        packages.read(tmp_path / "absent", blobs)
    assert blobs.staged() == []


def test_a_folder_link_in_a_directory_is_not_followed(tmp_path: Path, blobs: FileBlobStore):
    root = directory(tmp_path / "app", content())
    (root / "extra-data").symlink_to(tmp_path)
    with pytest.raises(Invalid, match="is a link"):
        packages.read(root, blobs)


def test_names_that_are_not_utf_8(tmp_path: Path, blobs: FileBlobStore):
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as archive:
        archive.addfile(tarfile.TarInfo("bad\udcff"))
    with pytest.raises(Invalid, match="is not UTF-8"):
        packages.read(io.BytesIO(buffer.getvalue()), blobs)
    raw = zipped({**content(), "xxxx": b""}).replace(b"xxxx", b"x\xff\xfex")
    with pytest.raises(Invalid, match="is not UTF-8"):
        packages.read(io.BytesIO(raw), blobs)
