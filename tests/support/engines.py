"""The optional engines as tests get them: one real server per test process, started on demand.

Where an engine isn't installed its tests skip with one line that says how to install it; with
ENGINES_REQUIRED=1, as where all must run, they fail instead.
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from functools import cache

import pytest

from support import radosgw as _radosgw

_servers = ExitStack()
atexit.register(_servers.close)


@cache
def radosgw() -> _radosgw.RadosGateway:
    """The S3 server of this process; every test uses a prefix of its own."""
    if reason := _radosgw.missing():
        unavailable(reason)
    return _servers.enter_context(_radosgw.running())


def unavailable(reason: str) -> None:
    """Skip the test, or fail it where every engine must be there."""
    if os.environ.get("ENGINES_REQUIRED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
