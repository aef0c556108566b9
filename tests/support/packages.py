"""Small packages for tests, sound and hostile ones. Everything is made in memory or tmp_path."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

MANIFEST = "name: {name}\nversion: '1.0'\ntags: [game]\naddons: [ssh]\ninstance-type: a4.3\n"


def manifest(name: str = "candy", extra: str = "") -> bytes:
    return (MANIFEST.format(name=name) + extra).encode()


def content(name: str = "candy", apk: bytes = b"apk" * 100, extra: str = "") -> dict[str, bytes]:
    """The files of a small package."""
    return {
        "manifest.yaml": manifest(name, extra),
        "app.apk": apk,
        "hooks/pre-start": b"#!/bin/sh\n",
    }


def tar(files: Mapping[str, bytes], executable: Iterable[str] = ("hooks/pre-start",)) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o755 if path in executable else 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_with(*infos: tarfile.TarInfo, data: bytes = b"", form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar with a good manifest and then `infos`, the regular ones of them holding `data`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        good = tarfile.TarInfo("manifest.yaml")
        good.size = len(manifest())
        archive.addfile(good, io.BytesIO(manifest()))
        for info in infos:
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return buffer.getvalue()


def special(path: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = kind, target
    return info


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for path, data in files.items():
            info = zipfile.ZipInfo(path)
            info.compress_type = method
            info.external_attr = (0o100755 if path.startswith("hooks/") else 0o100644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "tar": tar,
    "tar.bz2": lambda files: bz2.compress(tar(files)),
    "tar.gz": lambda files: gzip.compress(tar(files)),
    "tar.xz": lambda files: lzma.compress(tar(files)),
    "zip": zipped,
    "zip-bzip2": lambda files: zipped(files, zipfile.ZIP_BZIP2),
}


def directory(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o755 if path.startswith("hooks/") else 0o644)
    return root
