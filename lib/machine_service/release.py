"""Releases: a virtual environment for each set of wheels, and the link to the one in use.

A release is complete when its marker is there, which is written last; anything else is removed
and made again. Not responsible for the processes that run from it.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machine_service import files
from machine_service.errors import MachineServiceError
from machine_service.processes import demand, execute
from machine_service.program import Layout

PYTHON = Path("/usr/bin/python3")
"""The machine's own, so that its security updates reach the service."""

MARKER = ".complete"
DIGITS = 16
BUILD_SECONDS = 600
_TESTS = r"/tests?/"
"""Nobody imports the tests that wheels bring along."""


@dataclass(frozen=True)
class Release:
    """A complete release. `name` stands for the content of its wheels."""

    name: str
    version: str


def current(layout: Layout) -> Release | None:
    """Return the release in use; None: there is no complete one."""
    try:
        name = layout.venv.readlink().name
        marker = json.loads((layout.releases / name / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Release(name, marker["version"])


def install(layout: Layout, folder: Path) -> bool:
    """Make the release of the wheels in `folder` the one in use; return whether it wasn't."""
    wheels = sorted(folder.glob("*.whl"))
    name = _digest(wheels)
    found = current(layout)
    changed = found is None or found.name != name
    if changed:
        with _locked(layout) as lock:
            target = layout.releases / name
            if not (target / MARKER).exists():
                _build(layout, target, folder, wheels, lock)
    files.link(layout.venv, f"releases/{name}")
    return changed


def prune(layout: Layout) -> None:
    """Remove releases, and what is left of half-made ones, that nothing runs from."""
    in_use = current(layout)
    old = [
        path
        for path in (layout.releases.iterdir() if layout.releases.is_dir() else ())
        if not (in_use and path.name == in_use.name)
    ]
    if not old:
        return
    busy = _mentioned(layout, {path: str(layout.seen(path)).encode() + b"/" for path in old})
    for path in old:
        if path not in busy:
            discard(path)


def discard(path: Path) -> None:
    """Remove a release, never so that half of it could be taken for a whole."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def _digest(wheels: list[Path]) -> str:
    """Return a name for what these wheels become: with another Python they'd be of no use."""
    digest = hashlib.sha256(PYTHON.resolve().name.encode())
    for wheel in wheels:
        content = hashlib.sha256()
        with wheel.open("rb") as file:
            while chunk := file.read(1 << 20):
                content.update(chunk)
        digest.update(f"\0{wheel.name}\0".encode() + content.digest())
    return digest.hexdigest()[:DIGITS]


def _build(layout: Layout, target: Path, folder: Path, wheels: list[Path], lock: int) -> None:
    pip = [wheel for wheel in wheels if wheel.name.startswith("pip-")]
    if len(pip) != 1:
        raise MachineServiceError(
            f"{folder} holds {len(pip)} wheels of pip, where one is needed: pack the charm again"
        )
    version = _version(layout, folder, wheels)
    if target.exists():
        discard(target)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    environment = {"PIP_CONFIG_FILE": os.devnull}

    def step(purpose: str, *argv: str | Path, paths: str = "") -> None:
        # The lock outlives us with a child of ours: nobody works on what it still writes to.
        done = execute(
            argv,
            timeout=BUILD_SECONDS,
            environment={**environment, "PYTHONPATH": paths} if paths else environment,
            keep_open=[lock],
        )
        demand(done, f"can't {purpose} {target}")

    step("make", PYTHON, "-I", "-m", "venv", "--without-pip", target)
    python = target / "bin" / "python"
    installing = ["-m", "pip", "--isolated", "--no-input", "--disable-pip-version-check"]
    installing += ["--python", str(python), "install", "--quiet", "--root-user-action=ignore"]
    installing += ["--no-index", "--no-deps", "--no-cache-dir", "--no-compile"]
    chosen = [wheel for wheel in wheels if wheel not in pip]
    # pip runs from its own wheel and isn't installed: the release can't be changed by hand.
    step("install the wheels in", PYTHON, *installing, *chosen, paths=str(pip[0]))
    compiling = ["-I", "-m", "compileall", "-q", "-j", "0", "-x", _TESTS]
    step("compile", python, *compiling, target / "lib")
    os.sync()  # so that after a power failure no marker stands in a release that isn't whole
    with files.folder(target, 0o755) as descriptor:
        content = json.dumps({"version": version}).encode()
        files.replace(MARKER, content, 0o644, within=descriptor)


def _version(layout: Layout, folder: Path, wheels: list[Path]) -> str:
    """Return the version of the wheel that brings the program's own command."""
    command = layout.program.name
    for wheel in wheels:
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not name.endswith(".dist-info/entry_points.txt"):
                    continue
                entries = configparser.ConfigParser(
                    delimiters=("=",), interpolation=None, strict=False
                )
                entries.read_string(archive.read(name).decode())
                if entries.has_option("console_scripts", command):
                    return wheel.name.split("-")[1]  # binary distribution format: name-version-…
    raise MachineServiceError(
        f"{folder} holds no wheel with the command {command}: pack the charm again"
    )


@contextmanager
def _locked(layout: Layout) -> Iterator[int]:
    """Wait for whoever builds here, a child of a killed hook too; yield the lock's descriptor."""
    with files.folder(layout.base, 0o755) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor


def _mentioned(layout: Layout, places: dict[Path, bytes]) -> set[Path]:
    """Return those of the places that a running process was started from or has code of."""
    found: set[Path] = set()
    for process in layout.processes.glob("[0-9]*"):
        for name in ("cmdline", "maps"):
            with contextlib.suppress(OSError):  # it has just ended
                content = (process / name).read_bytes()
                found |= {path for path, place in places.items() if place in content}
    return found
