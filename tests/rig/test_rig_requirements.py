"""Without what it needs, the rig says so in one line instead of failing half-way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rig import isolation

TESTS = Path(__file__).parent.parent


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.os, "geteuid", lambda: 0)
    monkeypatch.setattr(isolation.shutil, "which", lambda name: None if name == "ip" else name)
    assert isolation.missing() == "the rig needs ip: run tests/rig/setup.sh"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to stop being it")
def test_without_root_one_line_says_so() -> None:
    script = "from rig import isolation; print(isolation.missing())"
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script],
        env={"PYTHONPATH": str(TESTS), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "the rig needs root (namespaces, overlay mounts, booted machines)\n"


def test_with_rig_passes_the_exit_status_on_and_refuses_nothing_silently() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rig", "--series", "2.9", "true"],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "invalid choice" in done.stderr
