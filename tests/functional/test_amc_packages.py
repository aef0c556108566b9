"""Packages that `amc application create` must refuse: said in one line, and nothing is changed."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.ams import Service, running, write_package

GOOD = b"name: hostile\nversion: '1'\ninstance-type: a4.3\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("ams")) as started:
        yield started


def refused(service: Service, package: Path, *words: str) -> None:
    """Expect that creating an application of `package` fails with `words` and leaves no trace."""
    before = service.state()
    message = service.fails("application", "create", package)
    for word in words:
        assert word in message
    assert service.state() == before
    data = service.home / "data"
    kept = ("ams.db*", "*.lock")  # what every service has there
    blobs = [p for p in data.rglob("*") if p.is_file() and not any(p.match(k) for k in kept)]
    assert blobs == [], blobs


# Folders, which amc packs itself


def test_a_missing_package(service: Service, tmp_path: Path) -> None:
    refused(service, tmp_path / "missing", "does not exist")


def test_a_folder_without_a_manifest(service: Service, tmp_path: Path) -> None:
    (tmp_path / "app.apk").write_bytes(b"x")
    refused(service, tmp_path, "holds no manifest.yaml")


def test_a_folder_with_a_link(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "package", "hostile")
    (folder / "extra").symlink_to("/etc/passwd")
    refused(service, folder, "is a link")


def test_a_folder_with_a_socket(service: Service, tmp_path: Path) -> None:
    folder = write_package(tmp_path / "p", "hostile")
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as special:
            special.bind("s")
    finally:
        os.chdir(here)
    refused(service, folder, "neither a file nor a folder")


def test_every_fault_of_a_manifest_at_once(service: Service, tmp_path: Path) -> None:
    folder = write_package(
        tmp_path / "package",
        "has a space",
        version="x" * 51,
        colour="red",
        services=[{"name": "a", "port": 99999}],
    )
    refused(service, folder, "name", "version", "colour", "services[0].port")


# Archives, which the service reads


def tar_of(path: Path, *members: tuple[str, bytes], **more: object) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in more.items():
                if name != "manifest.yaml":
                    setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


MANIFEST = ("manifest.yaml", GOOD)

ARCHIVES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no-manifest": (lambda p: tar_of(p, ("app.apk", b"x")), "no manifest.yaml"),
    "dots": (lambda p: tar_of(p, MANIFEST, ("../../escape", b"x")), "leads out of the package"),
    "absolute": (lambda p: tar_of(p, MANIFEST, ("/etc/escape", b"x")), "leads out of"),
    "symlink": (
        lambda p: tar_of(p, MANIFEST, ("l", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "a link",
    ),
    "device": (lambda p: tar_of(p, MANIFEST, ("d", b""), type=tarfile.CHRTYPE), "regular file"),
    "twice": (lambda p: tar_of(p, MANIFEST, ("a", b"x"), ("a", b"y")), "twice"),
    "bad-manifest": (lambda p: tar_of(p, ("manifest.yaml", b"{")), "manifest.yaml"),
    "bomb": (lambda p: tar_of(p, MANIFEST, ("zeros", bytes(80 * 2**20))), "decompression bomb"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_hostile_archive(service: Service, tmp_path: Path, kind: str) -> None:
    make, words = ARCHIVES[kind]
    refused(service, make(tmp_path / "package.tar.gz"), words)


def test_a_truncated_archive(service: Service, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "package.tar.gz", MANIFEST, ("app.apk", os.urandom(200_000)))
    archive.write_bytes(archive.read_bytes()[:100_000])
    refused(service, archive, "truncated")


def test_a_hostile_zip(service: Service, tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("manifest.yaml", GOOD)
        packed.writestr("../escape", b"x")
    refused(service, archive, "leads out of the package")


def test_what_is_no_archive(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "package.tar.bz2"
    file.write_bytes(b"nothing of the kind" * 100)
    refused(service, file, "not a package")
    file.write_bytes(b"")
    refused(service, file, "is empty")
