"""The optional engines as tests get them: one real server per test process, started on demand.

Where an engine isn't installed its tests skip with one line that says how to install it; with
ENGINES_REQUIRED=1, as where all must run, they fail instead.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

from support import postgresql
from support import radosgw as _radosgw

PAIRS = ("sqlite+files", "sqlite+s3", "postgresql+files", "postgresql+s3")
"""A registry's database and where its blobs are."""
SHORT = ("sqlite+files", "postgresql+s3")
"""Each engine once: what runs unless ENGINE_PAIRS=all asks for all of them."""

_servers = ExitStack()
atexit.register(_servers.close)


@cache
def radosgw() -> _radosgw.RadosGateway:
    """The S3 server of this process; every test uses a prefix of its own."""
    if reason := _radosgw.missing():
        unavailable(reason)
    return _servers.enter_context(_radosgw.running())


def pairs() -> tuple[str, ...]:
    """The pairs of engines that this run is for."""
    return PAIRS if os.environ.get("ENGINE_PAIRS") == "all" else SHORT


def settings_for(pair: str, server: Callable[[], postgresql.Server]) -> dict[str, Any]:
    """`database` and `storage` of a conf/main.yaml for one of PAIRS, both empty."""
    database, _, storage = pair.partition("+")
    settings: dict[str, Any] = {}
    if database == "postgresql":
        if reason := postgresql.missing():
            unavailable(reason)
        settings["database"] = {"url": server().url(server().create())}
    if storage == "s3":
        gateway = radosgw()
        settings["storage"] = {"s3": gateway.settings(gateway.new_prefix())}
    return settings


def unavailable(reason: str) -> None:
    """Skip the test, or fail it where every engine must be there."""
    if os.environ.get("ENGINES_REQUIRED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
