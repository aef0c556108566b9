"""Start and stop the rig from a test process, and put that process on its network."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rig import base, isolation
from rig.client import Rig
from rig.errors import RigError

HERE = Path(__file__).parent


def seed_from_environment() -> int:
    """`RIG_SEED`, else a random one; failures print it."""
    return int(os.environ.get("RIG_SEED") or random.SystemRandom().randrange(1_000_000))


@contextlib.contextmanager
def running(seed: int | None = None, series: str = "3.6") -> Iterator[Rig]:
    """Run the rig; within, this thread and its child processes are on the rig's network.

    `juju` on PATH is the rig's, `RIG_KEEPER` names a process on the outer network.
    """
    seed = seed_from_environment() if seed is None else seed
    root = base.path() / "root"
    keeper = subprocess.Popen(
        [sys.executable, "-m", "rig.keeper", str(root), str(seed), series],
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert keeper.stdin and keeper.stdout
    before = dict(os.environ)
    try:
        line = keeper.stdout.readline()
        if not line:
            raise RigError("the rig's daemon did not start; its reason is above")
        pids = json.loads(line)
        os.environ["PATH"] = f"{HERE / 'bin'}:{before.get('PATH', os.defpath)}"
        os.environ["RIG_KEEPER"] = str(pids["keeper"])
        os.environ["RIG_SEED"] = str(seed)
        with isolation.network_of(pids["daemon"]):
            yield Rig()
    finally:
        os.environ.clear()
        os.environ.update(before)
        keeper.stdin.close()
        keeper.wait(30)
        keeper.stdout.close()
