"""What several folders of tests share: the engines, and how many tests ran on each."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aar.registry import Registry
from aar.settings import Settings
from support import counts, engines, postgresql

# A shell's jobs in the background ignore it, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_configure = counts.pytest_configure
pytest_itemcollected = counts.pytest_itemcollected
pytest_terminal_summary = counts.pytest_terminal_summary

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Callable[[], postgresql.Server]]:
    """Give the one PostgreSQL server of this test process, started when it is first asked for."""
    started: list[postgresql.Server] = []

    def server() -> postgresql.Server:
        if not started:
            if reason := postgresql.missing():
                pytest.skip(reason)
            started.append(postgresql.Server())
        return started[0]

    yield server
    for running in started:
        running.close()


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def databases(
    request: pytest.FixtureRequest,
    postgresql_server: Callable[[], postgresql.Server],
) -> Iterator[postgresql.Databases]:
    """Give the databases of a test, which runs on each engine."""
    made = postgresql.Databases(postgresql_server if request.param == POSTGRESQL else None)
    if made.shared and (reason := postgresql.missing()):
        pytest.skip(reason)
    yield made
    made.close()


@pytest.fixture(scope="module", params=engines.pairs())
def pair(
    request: pytest.FixtureRequest, postgresql_server: Callable[[], postgresql.Server]
) -> dict[str, Any]:
    """Give the settings of a registry on one pair of engines; the module's tests run on each."""
    return engines.settings_for(request.param, postgresql_server)


@pytest.fixture
def open_registry(databases: postgresql.Databases) -> postgresql.OpenRegistry:
    """Open the registry at a state root; the same root is the same database."""

    def opened(home: Path) -> Registry:
        if not databases.shared:
            return Registry(home)
        url = databases.url(home, "aar:migrations")
        return Registry(home, Settings.model_validate({"database": {"url": url}}))

    return opened
