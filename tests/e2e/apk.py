"""A real Android application for the demo, from a package index, checked and kept in `.cache/`.

Which one it is doesn't matter to the demo, only that it is real. Without a network one is built.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "demo"
FETCH_SECONDS = 40
BUILT_SIZE = 2_000_000


@dataclass(frozen=True)
class Apk:
    """The bytes of an application, and where they are from, in words."""

    content: bytes
    origin: str


@dataclass(frozen=True)
class _Source:
    name: str
    file: str
    sha256: str
    fetch: Callable[[Path], bytes]


def _from_npm(folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    options = ("--silent", "--fetch-retries=0", "--fetch-timeout=15000", "--ignore-scripts")
    _run([npm, "pack", *options, "io.appium.settings@8.0.10"], folder)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as package:
        member = package.extractfile("package/apks/settings_apk-debug.apk")
        assert member is not None
        return member.read()


def _from_pip(folder: Path) -> bytes:
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    options = ("--retries=0", "--timeout=15", "--no-deps", "--only-binary=:all:")
    _run([*pip, *options, "uiautomator2==3.7.1"], folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        return package.read("uiautomator2/assets/app-uiautomator.apk")


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=FETCH_SECONDS,
        check=True,
    )


SOURCES = (
    _Source(
        "npm package io.appium.settings 8.0.10 (Apache-2.0)",
        "settings_apk-debug.apk",
        "4c5d60ab5ae56502857dc625e1dde2996fa6d9e64c479bbce59214774e2129dd",
        _from_npm,
    ),
    _Source(
        "Python package uiautomator2 3.7.1 (MIT)",
        "app-uiautomator.apk",
        "6f85594700ad96de89d012b3767049c2c6988510b68b31b439dd2a6dd93a30c9",
        _from_pip,
    ),
)


def find() -> Apk:
    """Return an application: from the cache, from a package index, or else a built one."""
    for source in SOURCES:
        cached = CACHE / source.file
        if cached.exists() and _fits(source, content := cached.read_bytes()):
            return Apk(content, source.name)
    for source in SOURCES:
        try:
            with tempfile.TemporaryDirectory(prefix="aar-demo-fetch-") as folder:
                content = source.fetch(Path(folder))
        except (OSError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile):
            continue
        except subprocess.SubprocessError:  # unreachable: the next one
            continue
        if _fits(source, content):
            _keep(CACHE / source.file, content)
            return Apk(content, source.name)
    return Apk(_built(), "built by the demo, since no package index could be reached")


def _fits(source: _Source, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == source.sha256


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


def _built() -> bytes:
    """Make an archive of an application's shape that doesn't compress, as real ones don't."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("AndroidManifest.xml"), b"<manifest package='org.demo'/>")
        archive.writestr(zipfile.ZipInfo("classes.dex"), random.Random(1).randbytes(BUILT_SIZE))
    return buffer.getvalue()
