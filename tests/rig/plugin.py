"""Pytest plugin for tests that run on the rig: `with-rig pytest -p rig.plugin tests/integration`.

Saves what explains a failure while the machines still run, and prints the seed that repeats it.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest

from rig import cache
from rig.client import Rig, running_here

STARTED = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")


def artifacts_folder() -> Path:
    """`$RIG_ARTIFACTS`, else a directory of this run in the cache."""
    named = os.environ.get("RIG_ARTIFACTS")
    return Path(named) if named else cache.directory() / "artifacts" / STARTED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the seed and the folder with the artifacts to the report of a failure."""
    report = yield
    if report.failed and running_here():
        rig, name = Rig(), re.sub(r"[^\w.-]+", "-", item.nodeid)
        folder = artifacts_folder() / name
        rig.save(folder)
        seed = rig.seed()
        text = f"seed {seed} (repeat with RIG_SEED={seed})\nartifacts: {folder}"
        report.sections.append(("rig", text))
    return report
