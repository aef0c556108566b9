"""The services' wheels for the machines' Python, as a charm bundles them, and what charms import.

Built from this checkout and its locks, cached by their content.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from rig import base, cache, isolation
from rig.errors import RigError

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
"""The base is made of this machine's distribution, so this is the machines' Python too."""

CHARM = ("charmhelpers==1.2.1", "setuptools", "pyyaml>=6")
SOURCES = ("src", "lib", "locks", "pyproject.toml")


def service() -> Path:
    """Return a directory of wheels: the services, what they need, and pip."""
    inputs = [cache.tree_key(ROOT / s, {"__pycache__"}) for s in SOURCES if (ROOT / s).is_dir()]
    inputs.append((ROOT / "pyproject.toml").read_text())
    target = cache.directory() / f"wheels-{cache.key(base.path().name, *inputs)}"
    with cache.building(target) as scratch:
        if scratch is not None:
            there = ("--dest", str(scratch))
            binary = ("--only-binary=:all:", "--require-hashes")
            for lock in ("service.txt", "installer.txt"):
                _pip("download", *binary, "-r", str(ROOT / "locks" / lock), *there)
            _pip("wheel", "--no-deps", "--wheel-dir", str(scratch), str(ROOT))
    return target


def charm() -> Path:
    """Return a directory for the import path with what a charm's virtual environment holds."""
    target = cache.directory() / f"charm-python-{cache.key(base.path().name, *CHARM)}"
    with cache.building(target) as scratch:
        if scratch is not None:
            _pip("install", "--target", str(scratch), *CHARM)
    return target


def _pip(*arguments: str) -> None:
    """Run pip for the machines' Python, by the network that this process started on."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    keeper = os.environ.get("RIG_KEEPER")
    with isolation.network_of(int(keeper)) if keeper else contextlib.nullcontext():
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", PYTHON, *arguments, *quiet],
            env={**os.environ, "SOURCE_DATE_EPOCH": "1577836800"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RigError(f"pip {arguments[0]} failed:\n{done.stderr[-4000:]}")
