"""Where the packed charms are, and one clear line where there is no controller."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pytest_sessionstart() -> None:
    """Stop before anything is collected when there is nothing to run on."""
    reason = missing()
    if reason:
        pytest.exit(f"tests/operator needs a Juju 3 controller: {reason}", returncode=3)


def missing() -> str:
    """Why these tests can't run here, in one line; empty when they can."""
    for program in ("juju", "charmcraft"):  # pytest-operator insists on both
        if shutil.which(program) is None:
            return f"there is no {program} on PATH"
    command = ["juju", "show-controller"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "juju show-controller doesn't answer"
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return said[-1] if said else f"juju show-controller: exit status {done.returncode}"
    absent = [name for name in ("aar", "ams") if packed(name) is None]
    return f"no charm of {', '.join(absent)} in build/: run ./dev pack" if absent else ""


def packed(name: str) -> Path | None:
    """The charm to deploy: `$AAR_CHARM` or `$AMS_CHARM`, else what ./dev pack made."""
    named = os.environ.get(f"{name.upper()}_CHARM")
    if named:
        return Path(named).resolve()
    made = sorted((ROOT / "build").glob(f"{name}_*.charm"))
    return made[-1] if made else None


@pytest.fixture(scope="module")
def charms() -> dict[str, Path]:
    """Both charm files by the charm's name."""
    found = {name: packed(name) for name in ("aar", "ams")}
    return {name: path for name, path in found.items() if path}
