"""Deployed from their files, related by one command, both charms become active.

For Juju 3 controllers, by way of libjuju. What the charms do is tested in tests/integration.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pytest_operator.plugin import OpsTest

MINUTES = 60.0
RELATIONS = [
    ("aar:publisher", "publisher:registry-publisher"),
    ("aar:client", "client:registry-client"),
]
APPLICATIONS = {"aar": "aar", "publisher": "ams", "client": "ams"}


@pytest.mark.abort_on_fail
async def test_deploys(ops_test: OpsTest, charms: dict[str, Path]) -> None:
    assert ops_test.model
    await asyncio.gather(
        *(
            ops_test.model.deploy(charms[charm], application_name=name, num_units=1)
            for name, charm in APPLICATIONS.items()
        )
    )
    await ops_test.model.wait_for_idle(list(APPLICATIONS), status="active", timeout=20 * MINUTES)


@pytest.mark.abort_on_fail
async def test_relates(ops_test: OpsTest) -> None:
    assert ops_test.model
    for provider, requirer in RELATIONS:
        await ops_test.model.integrate(provider, requirer)
    await ops_test.model.wait_for_idle(list(APPLICATIONS), status="active", timeout=10 * MINUTES)


@pytest.mark.abort_on_fail
@pytest.mark.parametrize(("name", "mode"), [("publisher", "push"), ("client", "pull")])
async def test_follows_the_registry(ops_test: OpsTest, name: str, mode: str) -> None:
    assert ops_test.model
    [unit] = ops_test.model.applications[name].units
    action = await (await unit.run_action("registry-status")).wait()
    assert action.status == "completed", action.results
    assert action.results["mode"] == mode
    assert action.results["url"].startswith("https://")


async def test_the_registry_trusts_both(ops_test: OpsTest) -> None:
    assert ops_test.model
    [unit] = ops_test.model.applications["aar"].units
    action = await (await unit.run_action("list-trusted")).wait()
    assert action.status == "completed", action.results
    assert int(action.results["count"]) == 2
