"""The distribution API on every other pair of engines: the same tests of pushing.

On SQLite and files they run in their own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functional.test_distribution_push import *  # noqa: F403
from support import engines, postgresql
from support.registry import RunningRegistry, running


@pytest.fixture(scope="module", params=["sqlite+s3", "postgresql+files", "postgresql+s3"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgresql_server: Callable[[], postgresql.Server],
) -> Iterator[RunningRegistry]:
    settings: dict[str, Any] = {}
    if "postgresql" in request.param:
        if reason := postgresql.missing():
            engines.unavailable(reason)
        name = postgresql_server().create()
        settings["database"] = {"url": postgresql_server().url(name)}
    if "s3" in request.param:
        gateway = engines.radosgw()
        # The tests look at the registry's own answers; redirects have tests of their own.
        s3 = gateway.settings(gateway.new_prefix(), redirect=False)
        settings["storage"] = {"s3": s3}
    with running(tmp_path_factory.mktemp("engines"), settings=settings) as server:
        yield server
