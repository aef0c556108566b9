"""Fixtures of the contract tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from rig.contract.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty model in memory."""
    return World(tmp_path)


@pytest.fixture
def related(world: World) -> World:
    """`db` (two units, provider) and `web` (one unit, requirer) in relation 1, settled."""
    world.provider(units=2)
    world.requirer()
    world.ok("integrate", "db", "web")
    world.settle()
    return world
