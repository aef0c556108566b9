"""A registry on a small file system that is filled for real, and freed by deleting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if os.getuid() != 0:
    pytest.skip("a small file system is mounted, which needs root", allow_module_level=True)


def test_filled_and_freed_by_deletion(tmp_path: Path):
    """It runs in a mount namespace of its own, so that nothing is left however it ends."""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*unshare, sys.executable, "-m", "faults.full_disk", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["pushed"] >= 5
    assert found["refused"] == 507
    assert found["read while full"] and found["listed while full"]
    assert found["deleted while full"] == 200
    assert found["pushed again"] == 201
    assert found["versions"] == found["pushed"]
    assert found["uploads left"] == []
