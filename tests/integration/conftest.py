"""A fleet from packed charms, the same on a real controller and on the rig (`tests/rig`)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import jubilant
import pytest

from rig.client import Rig, running_here
from support.fleet import Fleet

WAIT = 900.0
"""Seconds that a model may take to settle; real machines take minutes to come up."""


@pytest.fixture(scope="session")
def charms() -> dict[str, Path]:
    """The packed charms by name, from `AAR_CHARM` and `AMS_CHARM`."""
    found = {}
    for name in ("aar", "ams"):
        variable = f"{name.upper()}_CHARM"
        path = Path(os.environ.get(variable, ""))
        if not path.is_file():
            pytest.exit(f"{variable} names no packed charm: run ./dev pack, then set it", 2)
        found[name] = path
    return found


@pytest.fixture(scope="session")
def new_model() -> Iterator[Callable[[], jubilant.Juju]]:
    """Make a model; all that were made go at the end."""
    made: list[jubilant.Juju] = []

    def make() -> jubilant.Juju:
        juju = jubilant.Juju(wait_timeout=WAIT)
        juju.add_model(f"registry-{uuid.uuid4().hex[:6]}")
        made.append(juju)
        return juju

    yield make
    for juju in reversed(made):
        assert juju.model
        juju.destroy_model(juju.model, force=True)


@pytest.fixture(scope="session")
def deployed(new_model: Callable[[], jubilant.Juju], charms: dict[str, Path]) -> Fleet:
    """The fleet as the how-to deploys it: a registry, a publisher, two clients."""
    fleet = Fleet(new_model(), charms)
    fleet.deploy()
    return fleet


@pytest.fixture
def fleet(deployed: Fleet) -> Fleet:
    """The fleet, related and settled, whatever the test before has left."""
    deployed.restore()
    return deployed


@pytest.fixture
def rig(deployed: Fleet) -> Rig:
    """The rig's own controls, for faults that no controller can make."""
    if not running_here():
        pytest.skip("only the rig can do this to a machine")
    return Rig(deployed.juju.model)
