"""Failpoints: table and code agree, nothing but the environment arms one, each fires once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regkit import failpoints

SOURCES = Path(failpoints.__file__).parents[1]
CALL = re.compile(r'failpoints\.reach\(\s*"([^"]+)"')

REACH = """
import sys
from regkit import failpoints
for point in sys.argv[1:]:
    failpoints.reach(point)
    print(point, flush=True)
"""


def reached(folder: Path | None, *points: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop(failpoints.VARIABLE, None)
    if folder is not None:
        env[failpoints.VARIABLE] = str(folder)
    return subprocess.run(
        [sys.executable, "-c", REACH, *points],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        check=False,
    )


def test_the_table_names_exactly_what_the_code_reaches():
    found = [
        point
        for path in SOURCES.rglob("*.py")
        if path != Path(failpoints.__file__)
        for point in CALL.findall(path.read_text())
    ]
    assert set(found) == set(failpoints.POINTS)  # some stores have a step each


def test_nothing_is_armed_without_the_variable(tmp_path):
    (tmp_path / "blob.rename:before").write_text("1 kill")
    assert failpoints.VARIABLE not in os.environ
    done = reached(None, "blob.rename:before")
    assert (done.returncode, done.stdout) == (0, "blob.rename:before\n")


def test_the_variable_is_read_nowhere_else():
    names = [
        path.name
        for path in SOURCES.rglob("*.py")
        if re.search(r"REGKIT_FAILPOINTS|failpoints\.(VARIABLE|_Armed)", path.read_text())
    ]
    assert names == ["failpoints.py"]


@pytest.mark.parametrize("hit", [1, 3])
def test_killed_at_a_hit(tmp_path, hit):
    (tmp_path / "blob.fsync:before").write_text(f"{hit} kill")
    done = reached(tmp_path, *["blob.fsync:before"] * 4)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.count("\n") == hit - 1
    assert [path.name for path in tmp_path.iterdir()] == ["blob.fsync:before.fired"]


def test_an_error_is_raised_once(tmp_path):
    (tmp_path / "blob.fsync:before").write_text("1 ENOSPC")
    done = reached(tmp_path, "blob.fsync:before")
    assert "[Errno 28]" in done.stderr
    assert reached(tmp_path, "blob.fsync:before").returncode == 0


def test_a_pause_lasts_until_it_is_told_to_end(tmp_path):
    (tmp_path / "blob.fsync:before").write_text("1 pause")
    process = subprocess.Popen(
        [sys.executable, "-c", REACH, "blob.write:before", "blob.fsync:before"],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            failpoints.VARIABLE: str(tmp_path),
        },
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blob.write:before\n"
        (tmp_path / "blob.fsync:before.go").touch()
        assert process.stdout.readline() == "blob.fsync:before\n"
        assert process.wait(20) == 0


def test_what_an_error_becomes(tmp_path):
    armed = failpoints._Armed(tmp_path)
    (tmp_path / "database.commit:before").write_text("1 ENOSPC")
    with pytest.raises(RuntimeError, match="No space left"):
        armed("database.commit:before", lambda error: RuntimeError(str(error)))
