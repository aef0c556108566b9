"""Fixtures on booted machines. Without root or the kernel's help they skip, and say why."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import jubilant
import pytest

from rig import isolation, pack, session
from rig.client import Rig
from rig.plugin import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """The rig, running; this process is on its network until the session ends."""
    reason = isolation.missing()
    if reason:
        pytest.skip(reason)
    with session.running(series=os.environ.get("RIG_SERIES", "3.6")) as running:
        yield running
        assert running.problems() == [], "the rig itself had faults"


@pytest.fixture(scope="session")
def toy_charm(rig: Rig) -> Path:
    """The toy charm, really packed."""
    return pack.pack(HERE / "toy")


@pytest.fixture(scope="module")
def juju(rig: Rig) -> Iterator[jubilant.Juju]:
    """A model of its own for each test file."""
    made = jubilant.Juju(wait_timeout=120)
    made.add_model(f"rig-{uuid.uuid4().hex[:6]}")
    rig.model = made.model
    yield made
    assert made.model
    made.destroy_model(made.model, force=True)
