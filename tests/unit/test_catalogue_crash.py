"""kill -9 at every step of a create and an update: whole or not at all, and no left-overs."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ams import packages
from ams.catalogue import Catalogue
from ams.options import Options
from regkit.blobs import FileBlobStore
from regkit.database import Database
from support.packages import content, tar

# Kills itself before the n-th call that changes the disk or commits.
VICTIM = """
import io, os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from ams import packages
from ams.catalogue import Catalogue
from ams.options import Options
from regkit.blobs import FileBlobStore
from regkit.database import Database

root, left = Path(sys.argv[1]), int(sys.argv[2])
database = Database(f"sqlite:///{root / 'ams.db'}")
blobs = FileBlobStore(root)
catalogue = Catalogue(database, blobs, "amd64", Options(database))

def step(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(function):
    def call(*arguments, **more):
        step()
        return function(*arguments, **more)
    return call

sa.event.listen(database.engine, "commit", step)
sa.event.listen(database.engine, "before_cursor_execute", step)
os.fsync, os.write = counted(os.fsync), counted(os.write)
Path.rename = counted(Path.rename)
Path.unlink = counted(Path.unlink)
with packages.read(io.BytesIO((root / "package.tar").read_bytes()), blobs) as package:
    if catalogue.list():
        catalogue.update("candy", package)
    else:
        catalogue.create(package)
print("done")
"""


def run(root: Path, steps: int) -> bool:
    """Run the victim; returns whether it came to its end."""
    done = subprocess.run(
        [sys.executable, "-c", VICTIM, str(root), str(steps)],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("kind", ["create", "update"])
def test_killed_at_any_step(tmp_path: Path, kind: str):
    database = Database(f"sqlite:///{tmp_path / 'ams.db'}")
    database.migrate("ams:migrations")
    blobs = FileBlobStore(tmp_path)
    now = datetime.now(timezone.utc)
    catalogue = Catalogue(database, blobs, "amd64", Options(database), clock=lambda: now)
    if kind == "update":
        with packages.read(io.BytesIO(tar(content())), blobs) as package:
            catalogue.create(package)
    before = [len(app.versions) for app in catalogue.list()]
    kept = {info.digest for info in blobs.blobs()}
    (tmp_path / "package.tar").write_bytes(tar({**content(), "extra-data/x": b"new"}))
    steps, finished, found = 1, False, before
    while not finished:
        finished = run(tmp_path, steps)
        found = [len(app.versions) for app in catalogue.list()]
        if found != before:
            # Committed: then everything of it is there.
            for version in catalogue.get("candy").versions:
                assert b"".join(catalogue.export("candy", version.number).chunks)
            break
        now += timedelta(days=2)
        catalogue.collect_garbage()
        assert blobs.staged() == []
        assert {info.digest for info in blobs.blobs()} == kept
        steps += 6
    assert found != before
    database.close()
